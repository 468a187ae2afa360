"""Makes the parts of the study of over-optimisation: labelled pairs, samples, and proxies.

All results are arrays by name, to be kept in files.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax.assembly.hand_over import sampler_params
from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.rollout_engine import make_engine
from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.preferences import Comparison
from posttrain_jax.data.stream import PromptStream
from posttrain_jax.learner import reward_model
from posttrain_jax.learner.division import Division, division_of
from posttrain_jax.models import heads
from posttrain_jax.rewards.model_reward import ModelReward
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.studies.overoptimization_settings import OveroptimizationSettings
from posttrain_jax.types import Group, Prompt, RunFailed

_PROMPTS_A_ROUND = 256
_ANSWERS = 2  # of a prompt that a pair is made of

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class StudyParts:
  """Holds what the stages share.

  Attributes:
    settings: the study's.
    policy: after its warm-up, with parameters.
    mesh: where everything runs.
    judge: fills in the gold reward.
    prompts: those that pairs are made of.
    held_out: those of best-of-n.
  """

  settings: OveroptimizationSettings
  policy: Policy
  mesh: jax.sharding.Mesh
  judge: Callable[[Sequence[Group]], list[Group]]
  prompts: Sequence[Prompt]
  held_out: Sequence[Prompt]


def _loaded_engine(parts: StudyParts, stream: Stream) -> Engine:
  rollout, policy = parts.settings.rollout, parts.policy
  # As wide as the config allows, not as the longest prompt: both stages' prompts and their arrays have this width.
  engine = make_engine(
    rollout,
    policy,
    parts.mesh,
    seed=stream_seed(parts.settings.seed, stream),
    max_prompt_length=rollout.max_prompt_length,
  )
  engine.load(sampler_params(policy, parts.mesh), 0)
  return engine


def _generate(
  parts: StudyParts, engine: Engine, prompts: Sequence[Prompt], samples: int
) -> tuple[list[Group], np.ndarray]:
  """Returns judged groups and their gold rewards, float64 [P, samples]."""
  groups = parts.judge(engine.generate(prompts, samples))
  missing = sum(int((~group.valid).sum()) for group in groups)
  if missing:
    raise RunFailed(f"the gold reward gave no verdict on {missing} of {len(groups) * samples} answers")
  return groups, np.array([group.rewards for group in groups], np.float64)


def _pad(rows: Sequence[Sequence[int]], width: int) -> np.ndarray:
  padded = np.zeros((len(rows), width), np.int32)
  for to, row in zip(padded, rows):
    to[: len(row)] = row
  return padded


def draw_pairs(parts: StudyParts) -> Arrays:
  """Draws pairs of answers that differ in gold reward; labels the first better, sometimes wrongly.

  Returns:
    prompts int32 [N, Tp] with prompt_lengths [N], answers int32 [N, 2, Tc] with lengths [N, 2], gold float64 [N, 2],
    flipped bool [N], and ties: how many prompts gave two answers of equal reward.
  """
  settings = parts.settings
  wanted = max(settings.proxy.sizes) * settings.proxy.repeats
  stream = PromptStream(parts.prompts, stream_seed(settings.seed, Stream.PROMPTS))
  engine, rng = (
    _loaded_engine(parts, Stream.ROLLOUT),
    np.random.default_rng(stream_seed(settings.seed, Stream.PREFERENCES)),
  )
  found, ties = [], 0
  while len(found) < wanted:
    groups, gold = _generate(parts, engine, stream.next(_PROMPTS_A_ROUND), _ANSWERS)
    before = len(found)
    for group, rewards in zip(groups, gold):
      if rewards[0] == rewards[1]:
        ties += 1
        continue
      flipped = rng.random() < settings.pairs.noise
      order = [0, 1] if (rewards[0] > rewards[1]) != flipped else [1, 0]
      answers = [group.answers[i].tokens for i in order]
      found.append((group.prompt.tokens, answers, rewards[order], flipped))
    if len(found) == before:
      raise RunFailed(f"{len(groups)} prompts gave no two answers that differ in gold reward")
  prompts, answers, gold, flipped = zip(*found[:wanted])
  width = settings.rollout.max_new_tokens
  return {
    "prompts": _pad(prompts, settings.rollout.max_prompt_length),
    "prompt_lengths": np.array([len(prompt) for prompt in prompts]),
    "answers": np.stack([_pad(pair, width) for pair in answers]),
    "lengths": np.array([[len(answer) for answer in pair] for pair in answers]),
    "gold": np.array(gold),
    "flipped": np.array(flipped),
    "ties": np.array(ties),
  }


def draw_samples(parts: StudyParts) -> Arrays:
  """Draws answers to the held-out prompts.

  Returns tokens int32 [P, M, Tc] with lengths [P, M], gold and correct float64 [P, M].
  """
  samples, width = parts.settings.best_of_n.samples, parts.settings.rollout.max_new_tokens
  groups, gold = _generate(parts, _loaded_engine(parts, Stream.EVALUATION), parts.held_out, samples)
  return {
    "tokens": np.stack([_pad([answer.tokens for answer in group.answers], width) for group in groups]),
    "lengths": np.array([group.lengths for group in groups]),
    "gold": gold,
    "correct": np.array([group.accuracy for group in groups], np.float64),
  }


class ProxyTrainer:
  """Trains reward models on pairs, all from the policy, with one compiled program."""

  def __init__(self, parts: StudyParts):
    self._parts, settings = parts, parts.settings.proxy
    seed = stream_seed(parts.settings.seed, Stream.HEAD)
    self.model, params = heads.to_scalar_head(parts.policy.model, parts.policy.params, seed=seed)
    self._learner = reward_model.make_learner(
      self.model,
      settings.optimizer,
      parts.mesh,
      _division(parts.settings),
      centering=settings.centering,
      max_skipped_updates=settings.max_skipped_updates,
      seed=seed,
      params=params,
    )
    self._start = jax.tree.map(jnp.copy, self._learner.state)

  def __call__(self, pairs: Arrays, size: int, repeat: int) -> ModelReward:
    """Returns the reward model trained on one of the disjoint sets of `size` pairs."""
    settings, learner = self._parts.settings.proxy, self._learner
    rows = range(repeat * size, (repeat + 1) * size)
    batches = ComparisonBatches(
      [_comparison(pairs, row) for row in rows],
      batch_size=settings.batch_size,
      seed=stream_seed(self._parts.settings.seed, Stream.PREFERENCES) + repeat,
      prompt_length=pairs["prompts"].shape[1],
      answer_length=pairs["answers"].shape[2],
    )
    learner.state = jax.tree.map(jnp.copy, self._start)
    for update in range(settings.updates):
      learner.train(batches.batch(update))
    return ModelReward(self.model, learner.state.params, mesh=self._parts.mesh)


def _division(settings: OveroptimizationSettings) -> Division:
  rollout, size = settings.rollout, settings.proxy.batch_size
  answer = rollout.max_new_tokens + 1  # a reward is read after it
  return division_of(0, prompts=size, group=_ANSWERS, prompt=rollout.max_prompt_length, answer=answer, together=True)


def _comparison(pairs: Arrays, row: int) -> Comparison:
  return Comparison(
    prompt=tuple(pairs["prompts"][row, : pairs["prompt_lengths"][row]].tolist()),
    answers=tuple(answer[:length] for answer, length in zip(pairs["answers"][row], pairs["lengths"][row])),
    ranks=(0, 1),
    source=f"pairs.npz, row {row}",
  )


def score(parts: StudyParts, proxy: ModelReward, samples: Arrays) -> np.ndarray:
  """Returns a proxy's scores of all samples, float32 [P, M]; equal answers are run once."""
  scores = np.empty(samples["lengths"].shape, np.float32)
  places: dict[tuple[int, ...], list[tuple[int, int]]] = {}
  for p, m in np.ndindex(scores.shape):
    answer = samples["tokens"][p, m, : samples["lengths"][p, m]].tolist()
    places.setdefault((*parts.held_out[p].tokens, *answer), []).append((p, m))
  for where, score in zip(places.values(), proxy.score(list(places))):
    scores[tuple(zip(*where))] = score
  return scores
