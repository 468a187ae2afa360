"""Lists the programs of SFT, DPO and reward models of both kinds, with abstract arguments.

Each has its update, and DPO the reference's logprobs, too. Evaluations are left out.
"""

import dataclasses

import numpy as np
from jax.sharding import Mesh

from posttrain_jax.assembly.comparisons import answers_of_a_prompt
from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.pair_learner import pair_learner
from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.mismatched import with_mismatched
from posttrain_jax.data.preferences import Comparison
from posttrain_jax.data.supervised import SupervisedBatch
from posttrain_jax.learner import reward_model, supervised
from posttrain_jax.learner.batch_learner import BatchLearner, check_division
from posttrain_jax.learner.preference_batch import ReferencedBatch, counted_answers
from posttrain_jax.learner.scoring import plain_logprob_scorer
from posttrain_jax.models import flops
from posttrain_jax.parallel.memory import Kept
from posttrain_jax.performance.compile.program import Program, RunPrograms, shapes
from posttrain_jax.performance.counts import Pass, PassKind, as_update, group_pass
from posttrain_jax.pipelines import offline
from posttrain_jax.pipelines.dpo import DPOSettings
from posttrain_jax.pipelines.generative_reward import GenerativeRewardSettings
from posttrain_jax.pipelines.reward_model import RewardModelSettings
from posttrain_jax.pipelines.sft import SFTSettings

# A decaying learning rate needs an end after its warm-up, and no data say where. No program's size depends on it.
MANY_ROWS = 2**24


def of_supervised(settings: SFTSettings | GenerativeRewardSettings, policy: Policy, mesh: Mesh) -> RunPrograms:
  """Returns the update of supervised fine-tuning, with full rows.

  A generative reward model is trained by it.

  Raises:
    InputError: if the batch does not divide over the mesh.
  """
  size, length = settings.batch_size, settings.demonstrations.row_length
  check_division(mesh, batch_size=size, micro_batches=settings.micro_batches)
  settings = offline.with_length(settings, MANY_ROWS)
  learner = supervised.make_learner(
    policy.model,
    settings.optimizer,
    mesh,
    logprob_chunk=settings.logprob_chunk,
    dropout=settings.dropout,
    dropout_seed=0,
    micro_batches=settings.micro_batches,
    max_skipped_updates=1,
    seed=0,
    abstract=True,
    optimizer_kept=settings.memory.optimizer if isinstance(settings, SFTSettings) else Kept.DEVICE,
  )
  zeros, draws = np.zeros((size, length), np.int32), np.zeros((size,), np.int32)
  batch = SupervisedBatch(zeros, zeros > 0, zeros, zeros, zeros.astype(np.float32), draws)
  tokens = size * length
  forward = Pass(policy.model, PassKind.FORWARD, tokens=tokens, pairs=size * flops.causal(length), logits=tokens)
  return _of_learner(learner, batch, mesh, forward)


def of_reward_model(settings: RewardModelSettings, policy: Policy, mesh: Mesh) -> RunPrograms:
  """Returns the update of a reward model, with prompts and answers of the greatest length.

  Comparisons of a file are taken to have as many answers as the config's `form` says.

  Raises:
    InputError: if a micro-batch cannot hold the longest answers to a prompt.
  """
  section, size = settings.preferences, settings.batch_size
  settings = offline.with_length(settings, MANY_ROWS)
  model = dataclasses.replace(policy.model, scalar_head=True, absent_ids=())
  asked, answered = section.max_prompt_length, section.max_answer_length
  count = answers_of_a_prompt(section.form, section.answers)
  division = section.division(settings.tokens_per_micro_batch, comparisons=size, answers=count, read=True)
  learner = reward_model.make_learner(
    model,
    settings.optimizer,
    mesh,
    division,
    centering=settings.centering,
    max_skipped_updates=1,
    seed=0,
    abstract=True,
  )
  ranked = Comparison((0,), tuple(np.array([rank]) for rank in range(count)), tuple(range(count)))
  made = ComparisonBatches(
    [ranked, dataclasses.replace(ranked, prompt=(1,))],
    batch_size=size,
    seed=0,
    prompt_length=asked,
    answer_length=answered,
    margins=settings.margins,
  )
  batch = made.batch(0)
  parts = learner.pack(batch).parts.rows.tokens.shape[0]
  forward = group_pass(model, prompts=size, prompt_length=asked, answers=count, answer_length=answered + 1, parts=parts)
  return _of_learner(learner, batch, mesh, forward)


def of_dpo(settings: DPOSettings, policy: Policy, mesh: Mesh) -> RunPrograms:
  """Returns the programs of DPO on given pairs or single answers of the greatest length."""
  section, size = settings.preferences, settings.batch_size
  objective = settings.objective
  settings = offline.with_length(settings, MANY_ROWS)
  pair = Comparison((0,), (np.array([0]), np.array([1])), (0, 1))
  if section.single:
    pair = Comparison((0,), (np.array([0]),), (0,), desirable=True)
  pairs = [pair, dataclasses.replace(pair, prompt=(1,))]
  if objective.unpaired:
    pairs = with_mismatched(pairs)
  answers = len(pairs[0].answers)
  division = section.division(settings.tokens_per_micro_batch, comparisons=size, answers=answers)
  learner = pair_learner(
    policy,
    objective,
    settings.optimizer,
    mesh,
    division,
    seed=0,
    max_skipped_updates=1,
    single=section.single,
    abstract=True,
  )
  prompt_length, answer_length = section.max_prompt_length, section.max_answer_length
  comparisons = ComparisonBatches(
    pairs, batch_size=size, seed=0, prompt_length=prompt_length, answer_length=answer_length
  ).batch(0)
  packed = learner.pack(ReferencedBatch(comparisons, np.zeros((size, answers), np.float32)))
  forward = group_pass(
    policy.model,
    prompts=size,
    prompt_length=prompt_length,
    answers=answers,
    answer_length=answer_length,
    parts=packed.parts.rows.tokens.shape[0],
  )
  params = learner.state.params
  reference = plain_logprob_scorer(policy.model, mesh, division, chunk=objective.logprob_chunk)
  ((_, packing),) = reference.split(counted_answers(comparisons))
  programs = {
    "update": Program(
      learner.update, (learner.state, shapes(packed)), mesh, 1, as_update(forward), ("policy", "optimizer")
    ),
    # Called before the first step, with the parameters that training starts from.
    "reference_logprobs": Program(
      reference.program, (params, shapes(packing.forward())), mesh, 0, forward, ("policy",)
    ),
  }
  return RunPrograms(programs, {"policy": params, "optimizer": learner.state.opt_state})


def _of_learner(learner: BatchLearner, batch, mesh: Mesh, forward: Pass) -> RunPrograms:
  arguments = (learner.state, shapes(learner.pack(batch)))
  update = Program(learner.update, arguments, mesh, 1, as_update(forward), ("policy", "optimizer"))
  return RunPrograms({"update": update}, {"policy": learner.state.params, "optimizer": learner.state.opt_state})
