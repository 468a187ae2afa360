import jax
import pytest

from posttrain_jax.learner.division import Division
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.types import InputError
from tests.learner.small_policy import make_learner


def test_divisions_that_do_not_work_out():
  with pytest.raises(InputError, match=r"4 prompts an update do not divide over learner\.micro_batches=3"):
    make_learner(micro_batches=3)


def test_rows_count_as_prompts_do():
  one, four = (make_mesh({"fsdp": n}, jax.devices()[:n]) for n in (1, 4))
  Division(4, 2, 2).check(four)  # 8 rows over 2 x 4
  Division(4, 2, 1).check(one)
  with pytest.raises(InputError, match=r"4 prompts an update do not .* x data x fsdp = 4 shards"):
    Division(4, 2, 1).check(four)
  with pytest.raises(InputError, match=r"an update x learner\.rows_per_prompt=3 do not"):
    Division(4, 2, 3).check(four)
  for sizes in ((0, 1, 1), (4, 0, 1), (4, 1, 0)):
    with pytest.raises(InputError):
      Division(*sizes).check(one)
