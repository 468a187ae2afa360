"""Tests the programs that GRPO and PPO share, made of a small learner without arrays."""

import jax
import pytest

from configs import tiny_dapo
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.performance.compile import policy_programs, proof
from posttrain_jax.performance.compile.programs_of_a_run import parse_method
from posttrain_jax.performance.counts import Pass, PassKind, as_update
from tests.learner.settings import make_objective, make_optimizer_config
from tests.performance.compile.small_config import small

PROMPTS = 8


@pytest.fixture(scope="module")
def settings():
  return parse_method(small(tiny_dapo))  # groups of 4 answers of 12 tokens, prompts of 9


@pytest.fixture(scope="module")
def policy(settings):
  return proof.policy_of(settings.model, "")


@pytest.fixture(scope="module")
def learner(policy):
  mesh = make_mesh(dict(fsdp=4, tensor=2))
  division = Division(PROMPTS, budget=64)
  objective, optimizer = make_objective(), make_optimizer_config()
  return PolicyLearner(policy.model, objective, optimizer, mesh, division, max_skipped_updates=1, seed=0, abstract=True)


@pytest.fixture(scope="module")
def forward(policy):
  return Pass(policy.model, PassKind.FORWARD, tokens=10, pairs=20, logits=5)


@pytest.fixture(scope="module")
def batch(settings):
  return policy_programs.widest_batch(settings.rollout, count=PROMPTS, per_token=False)


@pytest.mark.parametrize(("per_token", "last"), [(False, 1), (True, 12)])
def test_the_widest_batch_is_padding(settings, per_token, last):
  found = policy_programs.widest_batch(settings.rollout, count=PROMPTS, per_token=per_token)
  assert found.prompts.shape == (8, 9) and found.answers.shape == found.mask.shape == (8, 4, 12)
  assert found.advantages.shape == (8, 4, last)
  assert not found.mask.any() and found.old_logprobs is None and found.reference_logprobs is None


def test_a_forward_pass_over_full_groups(settings, policy):
  model = policy.model
  d, f, heads = model.embed_dim, model.mlp_dim, 4 * 8  # 4 heads and 2 of keys and values, all of size 8
  weights = 2 * (2 * d * heads + 2 * d * 16 + 3 * d * f)  # of two layers
  # A group runs 8 tokens of the prompt once and 4 answers of 12; a token attends to itself and to those before it.
  tokens = 8 + 4 * 12
  pairs = 8 * 9 // 2 + 4 * (12 * 8 + 12 * 13 // 2)
  one = 2 * weights * tokens + 2 * (4 * heads * pairs) + 2 * d * 64 * 48
  found = policy_programs.forward_pass(settings.rollout, model, prompts=3, answer_length=12, parts=3)
  assert (found.flops, found.tokens, found.parts) == (3 * one, 3 * tokens, 3)


@pytest.mark.parametrize(("length", "rows"), [(12, 8), (6, 4)])
def test_micro_batches_follow_the_length(learner, batch, length, rows):
  """Packs 8 groups: a row of 64 tokens, one on each of 4 shards, holds one of 8 + 4 · 12 tokens or two of 8 + 4 · 6."""
  assert policy_programs.micro_batches(learner.scorer, batch, length) == -(-rows // 4)


@pytest.mark.parametrize(
  ("count", "calls"), [(1, {"update_on_policy": 1}), (3, {"update_on_policy": 1, "update_off_policy": 2})]
)
def test_the_first_update_is_on_policy(learner, batch, forward, count, calls):
  found = policy_programs.updates(learner, batch, count=count, forward=forward)
  assert {name: program.calls for name, program in found.items()} == calls
  for name, program in found.items():
    assert program.work == as_update(forward) and program.takes == ("policy", "optimizer")
    (state, given) = program.arguments
    assert state is learner.state and (given.parts.old_logprobs is None) == (name == "update_on_policy")
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(program.arguments))


def test_scoring_gives_a_logprob_for_every_token(learner, batch, forward):
  params = learner.state.params
  program = policy_programs.scoring(
    learner.scorer, params, batch, learner.mesh, calls=2, forward=forward, of="reference"
  )
  assert (program.calls, program.work, program.takes) == (2, forward, ("reference",))
  with jax.set_mesh(program.mesh):
    made = jax.tree.leaves(program.function.eval_shape(*program.arguments))
  assert [each.shape for each in made] == [(2, 4, 64)]  # 8 groups of 56 tokens on 4 shards
