"""Online and iterative DPO: sample answers from the policy, judge them, train on the best and the worst, repeat.

A step is one round: `rollout.groups` prompts with `rollout.group_size` answers each, judged by the verifier or by a
reward model (`online.reward_model`), and `learner.updates_per_step` updates on one pair of each prompt whose answers
differ in reward. A few prompts a round are online DPO (2402.04792); a whole data set a round, iterative DPO (Llama 3,
2407.21783, section 4.1). The reference is the policy of the last refresh: every `online.refresh_every` rounds, 0 for
never. A checkpoint is made at a round's end and holds all that the next round depends on, the reference included.
"""

import contextlib
from typing import Any

import ml_collections
import numpy as np

from posttrain_jax.data.stream import PromptStream
from posttrain_jax.evaluation.report import write_report
from posttrain_jax.learner import preference
from posttrain_jax.learner.batch_learner import BatchLearner, check_division
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.preference import PreferenceObjective, ReferencedBatch
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.pipelines import offline, sft
from posttrain_jax.pipelines.evaluator import Evaluator
from posttrain_jax.pipelines.judging import check_answer_style, make_judge, make_workers
from posttrain_jax.pipelines.keeper import Keeper
from posttrain_jax.pipelines.model_rewards import judge_by_model, load_reward_model
from posttrain_jax.pipelines.policy import digests as policy_digests
from posttrain_jax.pipelines.policy import load_policy, save_description
from posttrain_jax.pipelines.preemption import Preemption
from posttrain_jax.pipelines.reference_logprobs import compute_logprobs
from posttrain_jax.pipelines.reference_policy import KLToReference, frozen_copy
from posttrain_jax.pipelines.sampled_pairs import best_and_worst, stack_answers
from posttrain_jax.pipelines.settings import at_least, build
from posttrain_jax.pipelines.streams import Stream, stream_seed
from posttrain_jax.pipelines.tasks import load_prompts
from posttrain_jax.pipelines.workdir import Workdir
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import InputError

_LEAST = {
  "steps": 0,
  "rollout.groups": 1,
  "rollout.group_size": 2,
  "online.refresh_every": 0,
  "learner.updates_per_step": 1,
  "learner.max_skipped_updates": 1,
  "eval.every": 0,
  "checkpoint.every": 1,
  "checkpoint.keep": 1,
}


def train(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Runs the rounds, or goes on with them.

  Args:
    config: see `configs/tiny_online_dpo.py`, which has every field.
    workdir: DIR; gets config.json, metrics.jsonl, checkpoints/, tensorboard/ and
      report.html.

  Raises:
    InputError: bad configuration or input, before anything is compiled.
    Preempted: after SIGTERM and a checkpoint.
    Diverged: `learner.max_skipped_updates` updates in a row were not finite; the last checkpoint is good.
  """
  rollout, settings = config.rollout, config.learner
  with contextlib.ExitStack() as stack:
    at_least(config, _LEAST)
    offline.check_best(config, [*config.eval.sets])
    objective = build(PreferenceObjective, config.objective, "objective")
    if objective.unpaired:
      raise InputError(f"objective.loss: {objective.loss} learns from single answers, expected one that takes pairs")
    optimizer = build(OptimizerConfig, config.optimizer, "optimizer")
    policy, mesh = load_policy(config.model), make_mesh(config.mesh)
    pairs_per_update, rest = divmod(rollout.groups, settings.updates_per_step)
    if rest:
      raise InputError(
        f"learner.updates_per_step: {settings.updates_per_step} does not divide rollout.groups = {rollout.groups}"
      )
    check_division(mesh, batch_size=pairs_per_update, micro_batches=settings.micro_batches)
    prompts, digests = load_prompts(
      config.prompts, policy.tokenizer, max_prompt_length=rollout.max_prompt_length, where="prompts"
    )
    stop_ids = policy.tokenizer.stop_ids
    engine = Engine(
      policy.model,
      build(SamplingConfig, rollout.sampling, "rollout.sampling", stop_ids=stop_ids),
      seed=stream_seed(config.seed, Stream.ROLLOUT),
      slots=rollout.slots,
      max_prompt_length=max(len(prompt.tokens) for prompt in prompts),
      max_new_tokens=rollout.max_new_tokens,
      mesh=mesh,
    )
    stream = PromptStream(prompts, stream_seed(config.seed, Stream.PROMPTS))
    workers = stack.enter_context(make_workers(config.rewards))
    verify = judge = make_judge(workers, policy.tokenizer, accuracy=config.rewards.accuracy)
    if config.online.reward_model:
      scorer, found = load_reward_model(config.online.reward_model, policy.tokenizer, "online.reward_model")
      judge, digests = judge_by_model(verify, scorer.score_groups), digests | found
    check_answer_style(config)
    evaluator = Evaluator(config.eval, policy, verify, seed=config.seed, mesh=mesh)
    digests |= evaluator.digests | policy_digests(config.model.path, policy.tokenizer)
    warmup = sft.prepare_warm_up(config, policy, mesh)
    digests |= {"warmup": warmup.digests["demonstrations"]} if warmup is not None else {}

    directory = stack.enter_context(Workdir.open(workdir, config, digests))
    preemption = stack.enter_context(Preemption())
    policy = sft.warm_up(config, policy, mesh, warmup, directory.path, evaluator, preemption)
    save_description(policy, directory.path)
    graph, _ = abstract_transformer(policy.model)
    learner = BatchLearner(
      policy.model,
      preference.make_loss(graph, objective, shards=batch_shards(mesh)),
      preference.total_pairs,
      optimizer,
      mesh,
      micro_batches=settings.micro_batches,
      max_skipped_updates=settings.max_skipped_updates,
      seed=stream_seed(config.seed, Stream.PARAMS),
      params=policy.params,
    )
    abstract = abstract_like(learner.state, learner.shardings)
    hand_over = make_handover(
      abstract.params, num_layers=policy.model.num_layers, dtype=policy.model.compute_dtype, mesh=mesh
    )
    reference = initial = frozen_copy(learner.state.params)
    kl = KLToReference(policy.model, initial, mesh, chunk=objective.logprob_chunk)
    saved = {"learner": abstract, "reference": abstract.params}
    keeper = Keeper(stack, directory.path, config, saved, title="online dpo", preemption=preemption)
    first = 0
    if keeper.restored is not None:
      state, extra, first = keeper.restored.state, keeper.restored.extra, keeper.step + 1
      learner.state, reference = state["learner"], state["reference"]
      learner.skipped.in_a_row, stream.position = extra["skipped_in_a_row"], extra["position"]
    engine.load(hand_over(learner.state.params), learner.version)

    # Step 0 is the policy as it came: evaluated, not trained.
    for step in range(first, config.steps + 1):
      metrics: dict[str, Any] = {}
      if step:
        refresh = config.online.refresh_every
        if refresh and (step - 1) % refresh == 0:
          reference = frozen_copy(learner.state.params)
        with keeper.clock.phase("rollout"):
          groups = engine.generate(stream.next(rollout.groups), rollout.group_size)
        with keeper.clock.phase("reward"):
          groups = judge(groups)
        with keeper.clock.phase("train"):
          found = best_and_worst(groups)
          metrics |= _describe(groups, len(found))
          widths = dict(prompt_width=engine.max_prompt_length, answer_width=engine.max_new_tokens)
          for part in range(settings.updates_per_step):
            # Dealt out in turn, so that every update has its share of pairs.
            dealt = [(group, pair) for group, *pair in found[part :: settings.updates_per_step]]
            batch = stack_answers(dealt, count=pairs_per_update, answers=2, **widths)
            if dealt:
              sums = compute_logprobs(policy.model, reference, [batch], len(dealt), mesh, chunk=objective.logprob_chunk)
              padded = np.zeros((pairs_per_update, 2), np.float32)
              padded[: len(dealt)] = sums
              metrics |= learner.train(ReferencedBatch(batch, padded))
        with keeper.clock.phase("handover"):
          engine.load(hand_over(learner.state.params), learner.version)
      if keeper.evaluates(step):
        with keeper.clock.phase("eval"):
          found, judged = evaluator(engine.params, learner.version)
          metrics |= found | {f"eval/{name}/kl_to_reference": kl(each) for name, each in judged.items()}
      metrics = {"updates": learner.version, **metrics}
      state = {"learner": learner.state, "reference": reference}
      extra = {"skipped_in_a_row": learner.skipped.in_a_row, "position": stream.position}
      if keeper.end(step, metrics, state, learner.state.params, lambda extra=extra: extra):
        break
    keeper.finish()
  if config.logging.report:
    write_report(directory.path)


def _describe(groups, pairs: int) -> dict[str, float]:
  """What a round sampled."""
  valid = np.concatenate([group.valid for group in groups])
  rewards = np.concatenate([group.rewards for group in groups])
  accuracy = np.concatenate([group.accuracy for group in groups])
  return {
    "pairs": pairs,
    "pairs/share": pairs / len(groups),
    "reward/mean": float(rewards[valid].mean()) if valid.any() else float("nan"),
    "accuracy/mean": float(accuracy[valid].mean()) if valid.any() else float("nan"),
    "reward/invalid": int((~valid).sum()),
    "length/mean": float(np.concatenate([group.lengths for group in groups]).mean()),
    "truncated/share": float(np.concatenate([group.truncated for group in groups]).mean()),
    "sampling/tokens_generated": int(sum(group.lengths.sum() for group in groups)),
  }
