"""Tests the programs that draw answers: calls and counts of a rollout and of a collection."""

import pytest

from configs import tiny_collect, tiny_dapo
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.performance.compile import proof
from posttrain_jax.performance.compile.program import bytes_per_device
from posttrain_jax.performance.compile.programs_of_a_run import parse_method
from posttrain_jax.performance.compile.sampling_programs import of_rollout
from posttrain_jax.performance.counts import Copy, Pass, PassKind
from tests.learner.settings import make_objective, make_optimizer_config
from tests.performance.compile.small_config import programs, small


@pytest.fixture(scope="module")
def policy():
  return proof.policy_of(parse_method(small(tiny_dapo)).model, "")  # groups of 4 answers of 12 tokens, prompts of 9


@pytest.fixture(scope="module")
def learner(policy):
  mesh, division = make_mesh(dict(fsdp=4, tensor=2)), Division(8, budget=64)
  objective, optimizer = make_objective(), make_optimizer_config()
  return PolicyLearner(policy.model, objective, optimizer, mesh, division, max_skipped_updates=1, seed=0, abstract=True)


@pytest.mark.parametrize("carries", [False, True])
def test_what_a_rollout_calls(policy, learner, carries):
  # 8 groups of 4 answers on 16 slots are two waves; 12 tokens at 8 a dispatch are two dispatches a wave.
  config = small(tiny_dapo, **{"rollout.slots": 16, "rollout.prefill_width": 4, "rollout.steps_per_dispatch": 8})
  rollout = parse_method(config).rollout
  found = of_rollout(rollout, policy, learner, learner.mesh, prompts=8, answer_length=12, carries=carries)
  calls = {name: program.calls for name, program in found.programs.items()}
  # 8 prompts and 16 resumed answers have one chunk each; 4 at a time.
  assert calls == {"prefill": 6 if carries else 2, "decode": 4, "hand_over": 1}
  assert set(found.arrays) == {"sampler", "caches"}
  for name, program in found.programs.items():
    assert program.frees == (("caches", "sampler") if name == "hand_over" else ())


def test_what_a_rollout_reads_and_draws(policy, learner):
  """Counts 16 slots and the prompts of 4 groups in each of 8 decode steps.

  Answers of up to 12 tokens and prompts of 9 have one page of 32 tokens each.
  """
  config = small(tiny_dapo, **{"rollout.slots": 16, "rollout.prefill_width": 4, "rollout.steps_per_dispatch": 8})
  rollout = parse_method(config).rollout
  found = of_rollout(rollout, policy, learner, learner.mesh, prompts=8, answer_length=12, carries=True)
  work = {name: program.work for name, program in found.programs.items()}
  assert work["decode"] == Pass(
    policy.model, PassKind.SAMPLE, tokens=128, pairs=128 * 15, logits=128, parts=8, cache_tokens=(16 + 4) * 32
  )
  # Four rows of 32; 8 prompts of 8 tokens and 16 resumed answers of 12 after such a prompt, in 6 prefills.
  pairs = (8 * 36 + 16 * (8 * 12 + 78)) // 6
  assert work["prefill"] == Pass(policy.model, PassKind.SAMPLE, tokens=4 * 32, pairs=pairs, logits=0)
  sampler, policy_bytes = (bytes_per_device(x) for x in (found.arrays["sampler"], learner.state.params))
  assert work["hand_over"] == Copy(policy_bytes + sampler, gathered=sampler)


def test_caches_that_are_full_bound_the_answers_that_run(policy, learner):
  """Counts 9 answers on 16 slots, as 4 shards have 3 pages each.

  An answer has a page of 32 tokens of its own and a quarter of its prompt's, so 12 pages hold 9 answers.
  """
  config = small(
    tiny_dapo, **{"rollout.slots": 16, "rollout.steps_per_dispatch": 8, "rollout.cache_tokens": 4 * 3 * 32}
  )
  rollout = parse_method(config).rollout
  found = of_rollout(rollout, policy, learner, learner.mesh, prompts=8, answer_length=12, carries=False)
  decode = found.programs["decode"]
  assert (decode.work.tokens, decode.work.cache_tokens) == (9 * 8, (9 + 3) * 32)
  assert decode.calls == 4 * 2  # 32 answers, 9 at a time; 12 tokens are two dispatches


def test_shorter_answers_than_the_cap(policy, learner):
  """Counts answers of 6 tokens: one dispatch of 8 steps, 16 of 32 at a time."""
  config = small(tiny_dapo, **{"rollout.slots": 16, "rollout.steps_per_dispatch": 8})
  rollout = parse_method(config).rollout
  found = of_rollout(rollout, policy, learner, learner.mesh, prompts=8, answer_length=6, carries=False)
  assert found.programs["decode"].calls == 2 and found.programs["decode"].work.pairs == 128 * (9 + 3)


@pytest.mark.parametrize("reward_model", ["", "somewhere"])
def test_a_round_of_a_collection(reward_model):
  """Counts 6 prompts with 4 answers each on 16 slots: two waves of 12 tokens, 16 a dispatch."""
  changes = {"rollout.prompts": 6, "rollout.samples": 4, "rollout.slots": 16, "rollout.max_new_tokens": 12}
  run = programs(small(tiny_collect, reward_model=reward_model, **changes))
  scored = {"reward"} if reward_model else set()
  assert set(run.programs) == {"prefill", "decode"} | scored and set(run.arrays) == {"sampler", "caches"} | scored
  decode, prefill = run.programs["decode"], run.programs["prefill"]
  assert (decode.calls, decode.work.tokens, decode.work.parts) == (2, 16 * 16, 16)
  assert decode.work.cache_tokens == (16 + 4) * 32  # a page of each answer, and of each prompt
  assert prefill.calls == 1 and decode.takes == prefill.takes == ("sampler", "caches")
  assert bytes_per_device(run.arrays["sampler"]) < 4 * decode.work.model.num_params  # float32, over 8 devices
  for program in run.programs.values():
    proof.lower(program)  # arguments that do not fit would be refused
  if reward_model:  # the caches stay on the devices while answers are scored
    assert run.programs["reward"].frees == () and run.programs["reward"].work.pairs > 0
