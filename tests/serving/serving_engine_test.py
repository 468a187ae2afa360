import dataclasses

import pytest

from posttrain_jax.assembly.model import open_policy
from posttrain_jax.sampling.own_sampling import PerRequest
from posttrain_jax.serving.serving_engine import serving_engine, warm_up
from posttrain_jax.types import InputError
from tests.serving.served import SIZES


@pytest.mark.parametrize("changes", [{}, {"slots": 1}, {"max_prompt_length": 1, "max_new_tokens": 1}], ids=str)
def test_an_engine_is_warm_and_idle(folder, changes):
  sizes = dataclasses.replace(SIZES, **changes)
  engine = serving_engine(open_policy(str(folder)), sizes)
  warm_up(engine)
  assert engine.sampling == PerRequest((1,), 20)
  assert not engine.busy and engine.free_slots == sizes.slots and engine.stats.generated_tokens == 0
  assert engine.sizes.steps_per_dispatch == 4


def test_a_reward_model_is_no_engine(folder):
  policy = open_policy(str(folder))
  judge = dataclasses.replace(policy, model=dataclasses.replace(policy.model, scalar_head=True))
  with pytest.raises(InputError, match="is a reward model"):
    serving_engine(judge, SIZES)
