import jax
import pytest

from posttrain_jax.learner.division import Division, division_of
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.types import InputError


def test_numbers_below_one():
  for sizes in ((0, 1), (4, 0)):
    with pytest.raises(InputError, match="expected at least 1"):
      Division(*sizes)


def test_a_row_for_each_batch_shard_divides_over_tensor():
  mesh = make_mesh({"data": 2, "fsdp": 1, "tensor": 4})
  assert Division(1, 30).row_tokens(mesh) == 32 and Division(1, 30).shards(mesh) == 2
  assert Division(1, 30).row_tokens(make_mesh({}, jax.devices()[:1])) == 30


def test_the_chosen_budget_holds_whole_groups_or_whole_answers():
  caps = dict(group=8, prompt=9, answer=24)  # a group has 8 + 8 · 24 = 200 tokens
  assert division_of(0, prompts=16, **caps) == Division(16, 2 * 200)  # a sixteenth is 200, at least 512 are tried
  assert division_of(0, prompts=1, **caps) == Division(1, 200)  # not more than there are
  assert division_of(0, prompts=50, **caps) == Division(50, 3 * 200)  # a sixteenth is 625
  assert division_of(0, prompts=1000, **caps) == Division(1000, 40 * 200)  # at most 8,192
  assert division_of(0, prompts=1, group=1, prompt=9, answer=24) == Division(1, 32)  # a prompt with an answer
  assert division_of(0, prompts=64, group=16, prompt=9, answer=3000) == Division(64, 8 + 2 * 3000)
  assert division_of(0, prompts=64, group=2, prompt=9, answer=6000, together=True) == Division(64, 8 + 2 * 6000)
  assert division_of(0, prompts=1, group=2, prompt=9, answer=9000) == Division(1, 9008)


def test_a_chosen_budget_leaves_no_padding_where_all_answers_reach_the_cap():
  for group, prompt, answer in ((8, 64, 128), (16, 100, 500), (4, 9, 24)):
    whole = prompt - 1 + group * answer
    assert division_of(0, prompts=32, group=group, prompt=prompt, answer=answer).tokens_per_micro_batch % whole == 0


def test_a_given_budget():
  caps = dict(group=8, prompt=9, answer=24)
  assert division_of(33, prompts=16, **caps) == Division(16, 33)
  with pytest.raises(
    InputError, match=r"learner\.tokens_per_micro_batch: 31, expected 0 \(chosen\) or at least 32, wh"
  ):
    division_of(31, prompts=16, **caps)
