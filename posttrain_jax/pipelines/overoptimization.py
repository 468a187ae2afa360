"""Reward over-optimisation by best-of-n (Gao et al., 2210.10760): the gold reward of what a proxy likes best, over √KL.

A synthetic gold reward (`rewards`) stands for people. It labels pairs of the policy's own answers, with noise; reward
models trained on few and on many such pairs are the proxies. Of held-out prompts many answers are drawn once, scored by
all, and every n is estimated from them (`evaluation.best_of_n`).

Every stage keeps its result in a file of DIR and is left out where that is there: warmup/, pairs.npz, samples.npz,
proxies/SIZE_REPEAT.npz. The study itself, overoptimization.json and .png, is made anew each time.

Deviations from the paper: the proxies start from the policy, and their data are samples of the same policy that
best-of-n draws from; small ones are trained for as many updates as large ones.
"""

import contextlib
import dataclasses
import io
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import rich.console

from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.preferences import Comparison
from posttrain_jax.data.stream import PromptStream
from posttrain_jax.evaluation import best_of_n, overoptimization_figure
from posttrain_jax.learner import atomic, reward_model
from posttrain_jax.learner.batch_learner import BatchLearner, check_division
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.models import heads
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.pipelines import sft
from posttrain_jax.pipelines.judging import make_judge, make_workers
from posttrain_jax.pipelines.policy import Policy, load_policy
from posttrain_jax.pipelines.policy import digests as policy_digests
from posttrain_jax.pipelines.preemption import Preempted, Preemption
from posttrain_jax.pipelines.settings import at_least, build
from posttrain_jax.pipelines.streams import Stream, stream_seed
from posttrain_jax.pipelines.tasks import load_prompts
from posttrain_jax.pipelines.workdir import Workdir
from posttrain_jax.rewards.model_reward import ModelReward
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import Group, InputError, Prompt

_LEAST = {
  "best_of_n.samples": 1,
  "proxy.repeats": 1,
  "proxy.updates": 1,
  "proxy.max_skipped_updates": 1,
}
_PROMPTS_A_ROUND = 256
_ANSWERS = 2  # of a prompt that a pair is made of

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Parts:
  """What the stages share.

  Attributes:
    config: the run's.
    policy: after its warm-up, with parameters.
    mesh: where everything runs.
    judge: fills in the gold reward.
    prompts: those that pairs are made of.
    held_out: those of best-of-n.
  """

  config: ml_collections.ConfigDict
  policy: Policy
  mesh: jax.sharding.Mesh
  judge: Callable[[Sequence[Group]], list[Group]]
  prompts: Sequence[Prompt]
  held_out: Sequence[Prompt]


def study(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Runs the study, or what of it is not there yet.

  Args:
    config: see `configs/tiny_overoptimization.py`, which has every field.
    workdir: DIR; gets config.json, the stages' files, overoptimization.json and overoptimization.png.

  Returns:
    The headline: gold reward of one sample and, by number of pairs, where it peaks and where it ends.

  Raises:
    InputError: bad configuration or input, before anything is compiled.
    Preempted: after SIGTERM, at the end of a stage.
    Diverged: too many updates of a proxy in a row were not finite.
  """
  with contextlib.ExitStack() as stack:
    _check(config)
    policy, mesh = load_policy(config.model), make_mesh(config.mesh)
    check_division(mesh, batch_size=config.proxy.batch_size, micro_batches=1)
    build(OptimizerConfig, config.proxy.optimizer, "proxy.optimizer")
    length = config.rollout.max_prompt_length
    prompts, digests = load_prompts(config.prompts, policy.tokenizer, max_prompt_length=length, where="prompts")
    held_out, found = load_prompts(config.held_out, policy.tokenizer, max_prompt_length=length, where="held_out")
    digests |= found | policy_digests(config.model.path, policy.tokenizer)
    workers = stack.enter_context(make_workers(config.rewards))
    judge = make_judge(workers, policy.tokenizer, accuracy=config.rewards.accuracy)
    warmup = sft.prepare_warm_up(config, policy, mesh)
    digests |= {"warmup": warmup.digests["demonstrations"]} if warmup is not None else {}
    if policy.params is None and warmup is None:
      raise InputError("warmup.steps: 0 and model.path is empty, expected a policy to sample from")

    path = stack.enter_context(Workdir.open(workdir, config, digests)).path
    preemption = stack.enter_context(Preemption())
    policy = sft.warm_up(config, policy, mesh, warmup, path, None, preemption)
    parts = _Parts(config, policy, mesh, judge, prompts, held_out)
    keep = _Keeper(preemption)
    pairs = keep(path / "pairs.npz", lambda: _draw_pairs(parts))
    samples = keep(path / "samples.npz", lambda: _draw_samples(parts))
    trainer = None
    scores: dict[int, list[np.ndarray]] = {}
    (path / "proxies").mkdir(exist_ok=True)
    for size in config.proxy.sizes:
      for repeat in range(config.proxy.repeats):

        def proxy(size=size, repeat=repeat) -> Arrays:
          nonlocal trainer
          trainer = trainer or _ProxyTrainer(parts)
          return {"scores": _score(parts, trainer(pairs, size, repeat), samples)}

        scores.setdefault(size, []).append(keep(path / "proxies" / f"{size}_{repeat}.npz", proxy)["scores"])
  found, curves = _study(config, pairs, samples["gold"], scores)
  atomic.write_text(path / "overoptimization.json", json.dumps(found, indent=2) + "\n")
  overoptimization_figure.draw(path / "overoptimization.png", config.best_of_n.n, curves)
  names = ("peak_n", "gold_peak", "gold_last", "drop", "turned_down")
  return {
    "gold_1": found["gold_1"],
    "last_n": config.best_of_n.n[-1],
    "proxies": {size: {name: each[name] for name in names} for size, each in found["proxies"].items()},
  }


def _check(config) -> None:
  at_least(config, _LEAST)
  n, sizes = config.best_of_n.n, config.proxy.sizes
  if len(n) < 3 or n[0] != 1 or list(n) != sorted(set(n)) or n[-1] > config.best_of_n.samples:
    raise InputError(
      f"best_of_n.n: {tuple(n)}, expected at least three ascending numbers from 1 to "
      f"best_of_n.samples = {config.best_of_n.samples}"
    )
  if not sizes or min(sizes) < 1 or list(sizes) != sorted(set(sizes)):
    raise InputError(f"proxy.sizes: {tuple(sizes)}, expected ascending numbers of pairs")
  if not 0 <= config.pairs.noise < 0.5:
    raise InputError(f"pairs.noise: {config.pairs.noise}, expected a probability below 0.5")


class _Keeper:
  """Keeps what a stage makes, and ends the run between two stages where SIGTERM asks for it."""

  def __init__(self, preemption: Preemption):
    self._preemption, self._console = preemption, rich.console.Console(stderr=True)

  def __call__(self, file: pathlib.Path, make: Callable[[], Arrays]) -> Arrays:
    """The arrays in a file; made, and the file with them, where it is not there."""
    if not file.exists():
      content = io.BytesIO()
      np.savez_compressed(content, **make())
      atomic.write_bytes(file, content.getvalue())
      self._console.print(f"made {file.parent.name}/{file.name}", highlight=False, soft_wrap=True)
      if self._preemption.requested:
        raise Preempted(f"preempted after {file.name}, which is saved")
    with np.load(file, allow_pickle=False) as arrays:
      return dict(arrays)


def _make_engine(parts: _Parts, stream: Stream) -> Engine:
  config, policy = parts.config, parts.policy
  engine = Engine(
    policy.model,
    build(SamplingConfig, config.rollout.sampling, "rollout.sampling", stop_ids=policy.tokenizer.stop_ids),
    seed=stream_seed(config.seed, stream),
    slots=config.rollout.slots,
    max_prompt_length=config.rollout.max_prompt_length,
    max_new_tokens=config.rollout.max_new_tokens,
    mesh=parts.mesh,
  )
  options = dict(num_layers=policy.model.num_layers, dtype=policy.model.compute_dtype, mesh=parts.mesh)
  engine.load(make_handover(policy.params, **options)(policy.params), 0)
  return engine


def _generate(parts: _Parts, engine: Engine, prompts: Sequence[Prompt], samples: int) -> tuple[list[Group], np.ndarray]:
  """Judged groups and their gold rewards, float64 [P, samples]."""
  groups = parts.judge(engine.generate(prompts, samples))
  missing = sum(int((~group.valid).sum()) for group in groups)
  if missing:
    raise RuntimeError(f"the gold reward gave no verdict on {missing} of {len(groups) * samples} answers")
  return groups, np.array([group.rewards for group in groups], np.float64)


def _pad(rows: Sequence[Sequence[int]], width: int) -> np.ndarray:
  padded = np.zeros((len(rows), width), np.int32)
  for to, row in zip(padded, rows):
    to[: len(row)] = row
  return padded


def _draw_pairs(parts: _Parts) -> Arrays:
  """Pairs of answers that differ in gold reward, the first one labelled better, with the probability of noise wrongly.

  Returns:
    prompts int32 [N, Tp] with prompt_lengths [N], answers int32 [N, 2, Tc] with lengths [N, 2], gold float64 [N, 2],
    flipped bool [N], and ties: how many prompts gave two answers of equal reward.
  """
  config = parts.config
  wanted = max(config.proxy.sizes) * config.proxy.repeats
  stream = PromptStream(parts.prompts, stream_seed(config.seed, Stream.PROMPTS))
  engine, rng = _make_engine(parts, Stream.ROLLOUT), np.random.default_rng(stream_seed(config.seed, Stream.PREFERENCES))
  found, ties = [], 0
  while len(found) < wanted:
    groups, gold = _generate(parts, engine, stream.next(_PROMPTS_A_ROUND), _ANSWERS)
    before = len(found)
    for group, rewards in zip(groups, gold):
      if rewards[0] == rewards[1]:
        ties += 1
        continue
      flipped = rng.random() < config.pairs.noise
      order = [0, 1] if (rewards[0] > rewards[1]) != flipped else [1, 0]
      answers = [group.answers[i].tokens for i in order]
      found.append((group.prompt.tokens, answers, rewards[order], flipped))
    if len(found) == before:
      raise RuntimeError(f"{len(groups)} prompts gave no two answers that differ in gold reward")
  prompts, answers, gold, flipped = zip(*found[:wanted])
  width = config.rollout.max_new_tokens
  return {
    "prompts": _pad(prompts, config.rollout.max_prompt_length),
    "prompt_lengths": np.array([len(prompt) for prompt in prompts]),
    "answers": np.stack([_pad(pair, width) for pair in answers]),
    "lengths": np.array([[len(answer) for answer in pair] for pair in answers]),
    "gold": np.array(gold),
    "flipped": np.array(flipped),
    "ties": np.array(ties),
  }


def _draw_samples(parts: _Parts) -> Arrays:
  """Answers to the held-out prompts: tokens int32 [P, M, Tc] with lengths [P, M], gold and correct float64 [P, M]."""
  samples, width = parts.config.best_of_n.samples, parts.config.rollout.max_new_tokens
  groups, gold = _generate(parts, _make_engine(parts, Stream.EVALUATION), parts.held_out, samples)
  return {
    "tokens": np.stack([_pad([answer.tokens for answer in group.answers], width) for group in groups]),
    "lengths": np.array([group.lengths for group in groups]),
    "gold": gold,
    "correct": np.array([group.accuracy for group in groups], np.float64),
  }


class _ProxyTrainer:
  """Trains reward models on pairs, all from the policy, with one compiled program."""

  def __init__(self, parts: _Parts):
    self._parts, settings = parts, parts.config.proxy
    seed = stream_seed(parts.config.seed, Stream.HEAD)
    self.model, params = heads.to_scalar_head(parts.policy.model, parts.policy.params, seed=seed)
    graph, _ = abstract_transformer(self.model)
    self._learner = BatchLearner(
      self.model,
      reward_model.make_loss(graph, centering=settings.centering),
      reward_model.totals,
      build(OptimizerConfig, settings.optimizer, "proxy.optimizer"),
      parts.mesh,
      micro_batches=1,
      max_skipped_updates=settings.max_skipped_updates,
      seed=seed,
      params=params,
    )
    self._start = jax.tree.map(jnp.copy, self._learner.state)

  def __call__(self, pairs: Arrays, size: int, repeat: int) -> ModelReward:
    """The reward model trained on one of the disjoint sets of `size` pairs."""
    settings, learner = self._parts.config.proxy, self._learner
    rows = range(repeat * size, (repeat + 1) * size)
    batches = ComparisonBatches(
      [_comparison(pairs, row) for row in rows],
      batch_size=settings.batch_size,
      seed=stream_seed(self._parts.config.seed, Stream.PREFERENCES) + repeat,
      prompt_length=pairs["prompts"].shape[1],
      answer_length=pairs["answers"].shape[2],
    )
    learner.state = jax.tree.map(jnp.copy, self._start)
    for update in range(settings.updates):
      learner.train(batches.batch(update))
    return ModelReward(self.model, learner.state.params, mesh=self._parts.mesh)


def _comparison(pairs: Arrays, row: int) -> Comparison:
  return Comparison(
    prompt=tuple(pairs["prompts"][row, : pairs["prompt_lengths"][row]].tolist()),
    answers=tuple(answer[:length] for answer, length in zip(pairs["answers"][row], pairs["lengths"][row])),
    ranks=(0, 1),
    source=f"pairs.npz, row {row}",
  )


def _score(parts: _Parts, proxy: ModelReward, samples: Arrays) -> np.ndarray:
  """A proxy's scores of all samples, float32 [P, M]; equal answers to a prompt are run once."""
  scores = np.empty(samples["lengths"].shape, np.float32)
  places: dict[tuple[int, ...], list[tuple[int, int]]] = {}
  for p, m in np.ndindex(scores.shape):
    answer = samples["tokens"][p, m, : samples["lengths"][p, m]].tolist()
    places.setdefault((*parts.held_out[p].tokens, *answer), []).append((p, m))
  for where, score in zip(places.values(), proxy.score(list(places))):
    scores[tuple(zip(*where))] = score
  return scores


def _study(config, pairs: Arrays, gold: np.ndarray, scores: dict[int, list[np.ndarray]]):
  """All numbers for the JSON file, and the curves for the figure.

  Curves of a size are means over its repeats; intervals are over prompts, of these reward models.
  """
  ns, seed = list(config.best_of_n.n), stream_seed(config.seed, Stream.EVALUATION)

  def interval(per_prompt: np.ndarray) -> best_of_n.Curve:
    return best_of_n.curve(per_prompt, seed=seed, resamples=config.best_of_n.resamples)

  def measured(per_prompt: np.ndarray) -> best_of_n.Curve:
    """With intervals of the gain over one sample: how far prompts differ in difficulty says nothing of it."""
    gain, first = interval(per_prompt - per_prompt[:, :1]), per_prompt[:, 0].mean()
    return best_of_n.Curve(first + gain.mean, first + gain.low, first + gain.high)

  ceiling = measured(best_of_n.expected_best(gold, gold, ns))
  curves, proxies = [], {}
  for size, repeats in scores.items():
    by_gold = np.mean([best_of_n.expected_best(each, gold, ns) for each in repeats], axis=0)
    scaled = [best_of_n.on_scale_of(each.astype(np.float64), gold) for each in repeats]
    by_proxy = np.mean([best_of_n.expected_best(each, each, ns) for each in scaled], axis=0)
    found = overoptimization_figure.ProxyCurves(
      pairs=size,
      gold=measured(by_gold),
      proxy=measured(by_proxy),
      fit=best_of_n.fit(by_gold, ns, seed=seed, resamples=config.best_of_n.resamples),
    )
    curves.append(found)
    peak = int(np.argmax(found.gold.mean))
    drop = interval(by_gold[:, [peak]] - by_gold[:, [-1]])
    proxies[str(size)] = {
      "peak_n": ns[peak],
      "gold_peak": float(found.gold.mean[peak]),
      "gold_last": float(found.gold.mean[-1]),
      "drop": float(drop.mean[0]),
      "drop_interval": [float(drop.low[0]), float(drop.high[0])],
      "turned_down": bool(drop.low[0] > 0),
      "order_accuracy": float(np.mean([best_of_n.order_accuracy(each, gold) for each in repeats])),
      "fit": dataclasses.asdict(found.fit),
      "gold": _lists(found.gold),
      "proxy": _lists(found.proxy),
    }
  one = interval(gold.mean(axis=1, keepdims=True))
  result = {
    "n": ns,
    "sqrt_kl": np.sqrt(best_of_n.kl_bound(np.array(ns))).tolist(),
    "prompts": len(gold),
    "samples": gold.shape[1],
    "gold_1": float(one.mean[0]),
    "gold_1_interval": [float(one.low[0]), float(one.high[0])],
    "gold_best": _lists(ceiling),
    "labels_flipped": float(pairs["flipped"].mean()),
    "pairs_tied": int(pairs["ties"]),
    "proxies": proxies,
  }
  return result, overoptimization_figure.Study(ceiling, curves)


def _lists(curve: best_of_n.Curve) -> dict[str, list[float]]:
  return {name: value.tolist() for name, value in dataclasses.asdict(curve).items()}
