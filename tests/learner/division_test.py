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


def chosen(shards=1, **sizes):
  return division_of(0, **sizes).tokens(shards)


def test_the_chosen_budget_holds_whole_groups_or_whole_answers():
  caps = dict(group=8, prompt=9, answer=24)  # a group has 8 + 8 · 24 = 200 tokens
  assert chosen(prompts=16, **caps) == 2 * 200  # a sixteenth is 200, at least 512 are tried
  assert chosen(prompts=1, **caps) == 200  # not more than there are
  assert chosen(prompts=50, **caps) == 3 * 200  # a sixteenth is 625
  assert chosen(prompts=1000, **caps) == 40 * 200  # at most 8,192
  assert chosen(prompts=1, group=1, prompt=9, answer=24) == 32  # a prompt with an answer
  assert chosen(prompts=64, group=16, prompt=9, answer=3000) == 8 + 2 * 3000
  assert chosen(prompts=64, group=2, prompt=9, answer=6000, together=True) == 8 + 2 * 6000
  assert chosen(prompts=1, group=2, prompt=9, answer=9000) == 9008


def test_the_chosen_budget_follows_from_what_a_shard_has():
  caps = dict(group=8, prompt=9, answer=24)
  assert chosen(16, prompts=16, **caps) == 200  # a prompt on each shard: two would be half padding
  assert chosen(8, prompts=20, **caps) == 2 * 200  # some have 3, some 2
  assert chosen(8, prompts=1000, **caps) == 7 * 200  # 125 on each: a sixteenth is 1,562
  for shards in (2, 16):
    assert chosen(shards, prompts=16 * shards, **caps) == chosen(prompts=16, **caps)
    assert chosen(shards, prompts=64, group=16, prompt=9, answer=3000) == 8 + 2 * 3000
  mesh = make_mesh({"data": 4, "fsdp": 2})
  assert division_of(0, prompts=8, **caps).row_tokens(mesh) == 200
  assert division_of(600, prompts=8, **caps).row_tokens(mesh) == 600  # a given one stays


def test_a_chosen_budget_leaves_no_padding_where_all_answers_reach_the_cap():
  for group, prompt, answer in ((8, 64, 128), (16, 100, 500), (4, 9, 24)):
    whole = prompt - 1 + group * answer
    for shards in (1, 4):
      assert chosen(shards, prompts=32, group=group, prompt=prompt, answer=answer) % whole == 0


def test_a_given_budget():
  caps = dict(group=8, prompt=9, answer=24)
  assert division_of(33, prompts=16, **caps) == Division(16, 33)
  with pytest.raises(
    InputError, match=r"learner\.tokens_per_micro_batch: 31, expected 0 \(chosen\) or at least 32, wh"
  ):
    division_of(31, prompts=16, **caps)
