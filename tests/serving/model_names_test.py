import pytest

from posttrain_jax.serving.model_names import named_models
from posttrain_jax.types import InputError


def test_a_model_is_called_as_its_path_ends_unless_it_has_a_name():
  given = ["/runs/sft", "best=/runs/dpo", "SmolLM2-135M", "../a=b/c.gguf"]
  expected = {"sft": "/runs/sft", "best": "/runs/dpo", "SmolLM2-135M": "SmolLM2-135M", "c.gguf": "../a=b/c.gguf"}
  assert named_models(given) == expected


@pytest.mark.parametrize("given", ["=x", "a b=x", "name=", "/", "-x=y"])
def test_a_name_that_no_client_could_write_is_refused(given):
  with pytest.raises(InputError, match="expected PATH_OR_NAME or NAME=PATH"):
    named_models([given])


def test_two_models_of_one_name():
  with pytest.raises(InputError, match="--model=b/sft: two models are called sft"):
    named_models(["a/sft", "b/sft"])
