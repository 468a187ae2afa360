import pytest

from posttrain_jax.models.sizes import SIZES, sizes
from posttrain_jax.types import InputError

# Parameters as the models' cards count them; smol_4layer from SmolLM2's by hand: 576 · 49152 + 4 · 3,540,096 + 576.
PARAMETERS = {
  "smol_4layer": 42_472_512,
  "smollm2_135m": 134_515_008,
  "llama3_2_1b": 1_235_814_400,
  "qwen2_5_0_5b": 494_032_768,
  "qwen2_5_1_5b": 1_543_714_304,
  "qwen2_5_7b": 7_615_616_512,
  "qwen2_5_32b": 32_763_876_352,
}


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_as_published(name):
  assert sizes(name).num_params == PARAMETERS[name]


def test_an_unknown_name_is_answered_with_the_known_ones():
  with pytest.raises(InputError, match="model: 'gpt', expected one of smol_4layer, smollm2_135m"):
    sizes("gpt")
