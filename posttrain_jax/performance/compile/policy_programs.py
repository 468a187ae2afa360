"""Builds the programs that GRPO and PPO share: updates, scoring, rollouts and the hand-over."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.rollout_engine import RolloutSettings, rollout_engine
from posttrain_jax.learner.policy_batch import PolicyBatch, pack_policy
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.learner.row_plan import plan_rows
from posttrain_jax.learner.scoring import Scorer
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.models import flops
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.performance.compile.program import Program, RunPrograms, bytes_per_device, shapes
from posttrain_jax.performance.counts import Copy, Pass, PassKind, as_update, group_pass
from posttrain_jax.pipelines.policy_batches import RolloutShape, policy_batch, stack_groups, training_mask
from posttrain_jax.sampling.pages import PAGE, pages_for
from posttrain_jax.types import Prompt


def widest_batch(rollout: RolloutSettings, *, count: int, per_token: bool) -> PolicyBatch:
  """Returns a batch of the greatest width, filled with padding, without optional fields.

  Its zeros take no memory, as the operating system gives pages to an array only when they are written.

  Args:
    rollout: the config's section.
    count: P, prompts.
    per_token: whether each token has its own advantage.
  """
  shape = RolloutShape(count, rollout.group_size, rollout.max_prompt_length, rollout.max_new_tokens)
  padded = stack_groups([], shape)
  advantages = np.zeros((count, rollout.group_size, rollout.max_new_tokens if per_token else 1), np.float32)
  batch = policy_batch(padded, training_mask(padded, overlong_filter=False))
  return dataclasses.replace(batch, advantages=advantages)


def forward_pass(
  rollout: RolloutSettings, model: TransformerConfig, *, prompts: int, answer_length: int, parts: int = 1
) -> Pass:
  """Counts a forward pass over groups.

  Prompts have the greatest length.

  Args:
    rollout: the config's section.
    model: the transformer.
    prompts: number of groups.
    answer_length: tokens of each answer.
    parts: micro-batches in which they run.
  """
  return group_pass(
    model,
    prompts=prompts,
    prompt_length=rollout.max_prompt_length,
    answers=rollout.group_size,
    answer_length=answer_length,
    parts=parts,
  )


def updates(learner: PolicyLearner, batch: PolicyBatch, *, count: int, forward: Pass) -> dict[str, Program]:
  """Returns the programs of a step's policy updates, of which the first is on-policy.

  Args:
    learner: with an abstract state.
    batch: of one update.
    count: updates in a step.
    forward: a forward pass over the batch.
  """
  programs = {}
  for name, on_policy, calls in (("update_on_policy", True, 1), ("update_off_policy", False, count - 1)):
    if calls:
      given = batch if on_policy else dataclasses.replace(batch, old_logprobs=batch.sampler_logprobs)
      ((part, packing),) = learner.scorer.split(given)
      update = pack_policy(part, packing)
      programs[name] = Program(
        learner.update[on_policy],
        (learner.state, shapes(learner.with_text(update, 0))),
        learner.mesh,
        calls=calls,
        work=as_update(forward),
        takes=("policy", "optimizer"),
      )
  return programs


def scoring(
  scorer: Scorer, params: nnx.State, batch: PolicyBatch, mesh: Mesh, *, calls: int, forward: Pass, of: str
) -> Program:
  """Returns the program of a scorer.

  Args:
    scorer: the scorer.
    params: abstract parameters.
    batch: of one update.
    mesh: mesh under which the scorer runs.
    calls: calls in a step.
    forward: a forward pass over the batch.
    of: name of the parameters among the run's arrays.
  """
  ((_, packing),) = scorer.split(batch)
  return Program(scorer.program, (params, shapes(packing.forward())), mesh, calls=calls, work=forward, takes=(of,))


def micro_batches(scorer: Scorer, batch: PolicyBatch, answer_length: int) -> int:
  """Returns the micro-batches of an update.

  Prompts have the greatest length, and all answers a given one.

  Args:
    scorer: cuts the batch into rows.
    batch: of one update.
    answer_length: tokens of each answer.
  """
  ((_, packing),) = scorer.split(batch)
  sizes, (prompts, group, _) = packing.sizes, batch.mask.shape
  rows = plan_rows(
    np.full((prompts,), batch.prompts.shape[1] - 1),
    np.full((prompts, group), answer_length),
    tokens=sizes.tokens,
    most_answers=sizes.answers,
    shards=sizes.shards,
    most_rows=sizes.micro_batches * sizes.shards,
    together=bool(sizes.groups),
  )
  return math.ceil(len(rows) / sizes.shards)


def sampling(
  rollout: RolloutSettings,
  policy: Policy,
  learner: PolicyLearner,
  mesh: Mesh,
  *,
  prompts: int,
  answer_length: int,
  carries: bool,
) -> RunPrograms:
  """Returns the rollout engine's programs and the hand-over, with the engine's arrays.

  Args:
    rollout: the config's section.
    policy: the model, and any tokeniser whose vocabulary fits.
    learner: with an abstract state.
    mesh: mesh of the engine.
    prompts: prompts that a step draws answers to.
    answer_length: tokens of each answer in the counts of work.
    carries: whether a step may end with unfinished answers, which the next step resumes.
  """
  model = policy.model
  longest = Prompt(index=0, tokens=(0,) * rollout.max_prompt_length, row={})
  engine = rollout_engine(rollout, policy, [longest], mesh, seed=0)
  trained = abstract_like(learner.state, learner.shardings).params
  handover = make_handover(trained, num_layers=model.num_layers, dtype=model.compute_dtype, mesh=mesh)
  copies = isinstance(handover, jax.stages.Wrapped)  # otherwise the sampler uses the learner's own arrays
  params, holder = (handover.eval_shape(trained), "sampler") if copies else (trained, "policy")
  found = engine.abstract_calls(params)

  sample, caches = functools.partial(Pass, model, PassKind.SAMPLE), found["decode"][1][1]
  prefill = _prefills(
    rollout,
    sample,
    found["prefill"][1][2].tokens.shape,
    prompts=prompts,
    resumed=rollout.slots if carries else 0,
    answer_length=answer_length,
  )
  running, live = _running(rollout, held=jax.tree.leaves(caches)[0].shape[0], answer_length=answer_length)
  drawn = running * rollout.steps_per_dispatch  # tokens of a dispatch
  decode = sample(
    tokens=drawn,
    pairs=drawn * (rollout.max_prompt_length + answer_length // 2),
    logits=drawn,
    parts=rollout.steps_per_dispatch,
    cache_tokens=live,
  )
  dispatches = math.ceil(prompts * rollout.group_size / running) * math.ceil(answer_length / rollout.steps_per_dispatch)
  calls = {"prefill": prefill, "decode": (dispatches, decode)}
  programs = {}
  for name, (count, work) in calls.items():
    function, arguments = found[name]
    programs[name] = Program(function, arguments, mesh, calls=count, work=work, takes=(holder, "caches"), frees=())
  if copies:
    gathered = bytes_per_device(params)
    moving = Copy(bytes_per_device(trained) + gathered, gathered=gathered)
    programs["hand_over"] = Program(handover, (trained,), mesh, calls=1, work=moving, takes=("policy",))
  return RunPrograms(programs, {holder: params, "caches": caches})


def _running(rollout: RolloutSettings, *, held: int, answer_length: int) -> tuple[int, float]:
  """Counts the answers that run at the same time, and what they read.

  All answers have one length and begin at different times. If the caches cannot hold an answer in each slot, fewer run.

  Args:
    rollout: the config's section.
    held: pages of the caches, on all devices.
    answer_length: tokens of each answer.

  Returns:
    (answers, tokens of the pages that each step reads on average). A prompt's pages are read once for all answers of
    its group.
  """
  own = sum(pages_for(drawn, PAGE) for drawn in range(1, answer_length + 1)) / answer_length
  of_prompt = pages_for(rollout.max_prompt_length - 1, PAGE)
  running = min(rollout.slots, max(1, int(held / (own + of_prompt / rollout.group_size))))
  return running, PAGE * (running * own + math.ceil(running / rollout.group_size) * of_prompt)


def _prefills(
  rollout: RolloutSettings,
  sample: Callable[..., Pass],
  shape: tuple[int, int],
  *,
  prompts: int,
  resumed: int,
  answer_length: int,
) -> tuple[int, Pass]:
  """Counts the prefills of a step, and the work of an average one.

  Args:
    rollout: the config's section.
    sample: makes the count.
    shape: chunks in one prefill, and tokens of a chunk.
    prompts: prompts of a step.
    resumed: unfinished answers that a step begins with.
    answer_length: tokens of each of them.
  """
  (width, chunk), prompt = shape, rollout.max_prompt_length - 1
  chunks = prompts * math.ceil(prompt / chunk) + resumed * math.ceil(answer_length / chunk)
  pairs = prompts * flops.causal(prompt) + resumed * (prompt * answer_length + flops.causal(answer_length))
  calls = max(1, math.ceil(chunks / width))
  return calls, sample(tokens=width * chunk, pairs=pairs // calls, logits=0)
