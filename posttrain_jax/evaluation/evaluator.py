"""Evaluates a policy on a run's evaluation sets, each with its own problems and sampling."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.judges import ScoreGroups
from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.prompts import Part, PromptSettings, load_prompts
from posttrain_jax.assembly.rollout_engine import EngineSettings, SamplingSettings, own_sizes
from posttrain_jax.evaluation import answers
from posttrain_jax.evaluation import metrics as bootstrap
from posttrain_jax.parallel.processes import local_mesh, part_of
from posttrain_jax.rewards import extract
from posttrain_jax.rollouts.multi_process import shared
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.sections import EvaluationTimes
from posttrain_jax.runs.settings import at_least
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import Group, InputError, Judge, Prompt


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetSettings:
  """Holds a config's group of fields about one evaluation set.

  Attributes:
    prompts: its problems.
    samples: answers per problem.
    greedy: whether a greedy answer is drawn too.
    sampling: how the samples are drawn.
    per_problem: whether every problem's scores are reported too; None means no.
  """

  prompts: PromptSettings
  samples: int = at_least(1)
  greedy: bool
  sampling: SamplingSettings
  per_problem: bool | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetsSettings:
  """Holds a config's evaluation sets and the settings they share.

  Attributes:
    answer_style: how majority votes find the final answer of a text.
    slots: answers drawn at the same time.
    max_prompt_length: limit on prompts in tokens.
    max_new_tokens: cap on an answer in tokens.
    sets: the sets by name.
  """

  answer_style: extract.AnswerStyle
  slots: int
  max_prompt_length: int
  max_new_tokens: int
  sets: Mapping[str, SetSettings]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings(EvaluationTimes, SetsSettings):
  """Holds the `eval` section of a method that samples answers.

  Attributes:
    own_share: share of the run's own prompts, where they are from a file, that the sets without a file are made of; 0
      to leave such sets the procedural task (`evaluation.own_data`).
    own_limit: at most so many of those prompts are evaluated; 0 for all.
  """

  own_share: float
  own_limit: int = at_least(0)

  def __post_init__(self):
    """Raises InputError if the share is none."""
    if not 0 <= self.own_share < 1:
      raise InputError(f"eval.own_share: {self.own_share}, expected a share from 0 to below 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class KLEvaluation(EvaluationSettings):
  """Holds the `eval` section of a method that can measure the KL to its start.

  Attributes:
    kl: whether the KL to the parameters that training started from is measured too. If so, those parameters stay in
      memory.
  """

  kl: bool


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
  """Holds a set of problems and the engines that draw its answers.

  Attributes:
    prompts: the problems.
    samples: answers per problem.
    engine: draws them with the set's own settings.
    greedy: draws the most likely answer; None where the set does not ask for it.
    per_problem: whether every problem's scores are reported, and journalled, as well.
  """

  prompts: Sequence[Prompt]
  samples: int
  engine: Engine
  greedy: Engine | None
  per_problem: bool


class Evaluator:
  """Evaluates parameters on all sets of a config.

  Attributes:
    sets: the evaluation sets by name.
    digests: name to sha256 of each file that a set was read from.
    reward: a reward model's scores of groups, reported beside the accuracy as `reward`. None leaves it out; it may be
      set later, since a reward model is placed on devices after everything has been checked.
  """

  def __init__(
    self,
    section: SetsSettings,
    policy: Policy,
    judge: Judge,
    *,
    seed: int,
    mesh: Mesh,
    parts: Mapping[str, tuple[Part, int]] | None = None,
    window: int = extract.WINDOW,
    rollout: EngineSettings | None = None,
  ):
    """Reads the sets' problems and makes their engines.

    Args:
      section: the sets, and the engines' sizes.
      policy: model and tokeniser.
      judge: fills in texts and accuracy; the same verifier as in training.
      seed: the config's seed: evaluations of a run, and of runs with the same seed, share their random numbers.
      mesh: the learner's; the sampler's parameters are on this process's part of it.
      parts: of the sets that are a part of the run's own prompts, which part, and the run's limit in tokens.
      window: where majority votes look for `Answer:`, as the verifier does (`rewards.extract.answer_line`).
      rollout: the training's, which says how prompts are prefilled and how much the caches hold; None: as an engine
        chooses.

    Raises:
      InputError: if a set is empty, or if its settings mean nothing.
    """
    self._judge, self._seed = judge, stream_seed(seed, Stream.EVALUATION)
    self.reward: ScoreGroups | None = None
    self._style, self._window = section.answer_style, window
    self.sets: dict[str, EvaluationSet] = {}
    self.digests: dict[str, str] = {}
    for name, settings in section.sets.items():
      part, length = (parts or {}).get(name, (None, section.max_prompt_length))
      prompts, digests = load_prompts(
        settings.prompts,
        policy.tokenizer,
        max_prompt_length=length,
        where=f"eval.sets.{name}.prompts",
        limit_field="eval.max_prompt_length" if part is None else "rollout.max_prompt_length",
        part=part,
      )
      self.digests |= digests

      longest = max(len(prompt.tokens) for prompt in prompts)

      def engine(sampling: SamplingConfig, samples: int, longest=longest) -> Engine:
        return Engine(
          policy.model,
          sampling,
          _sizes(section, rollout, longest=longest, share=samples),
          seed=self._seed,
          decode=policy.tokenizer.decode,
          mesh=local_mesh(mesh),
        )

      sampling = settings.sampling.of_tokenizer(policy.tokenizer, f"eval.sets.{name}.sampling")
      greedy = engine(sampling.greedy(), 1) if settings.greedy else None
      self.sets[name] = EvaluationSet(
        prompts, settings.samples, engine(sampling, settings.samples), greedy, bool(settings.per_problem)
      )

  @property
  def engines(self) -> list[Engine]:
    """Returns an engine of each set; greedy answers are as long as its answers."""
    return [each.engine for each in self.sets.values()]

  def __call__(self, params: nnx.State, version: int) -> tuple[dict[str, Any], Mapping[str, list[Group]]]:
    """Evaluates parameters on all sets.

    Args:
      params: the sampler's parameters.
      version: their version.

    Returns:
      (metrics named `eval/<set>/<metric>`, the judged groups by set name).
    """
    metrics, groups = {}, {}
    for name, each in self.sets.items():
      for engine in (each.engine, each.greedy):
        if engine is not None:
          engine.load(params, version)
      found, groups[name] = answers.evaluate(
        self._judged_draws(each.engine),
        list,  # keeps the groups: each process has judged its own draws
        each.prompts,
        each.samples,
        extract=functools.partial(extract.find_answer, style=self._style, window=self._window),
        greedy=self._judged_draws(each.greedy) if each.greedy is not None else None,
        seed=self._seed,
        per_problem=each.per_problem,
      )
      if self.reward is not None:
        per_problem = np.array([scores.mean() for scores in self.reward(groups[name])])
        estimate = bootstrap.estimate(per_problem, seed=self._seed)
        found |= {"reward": estimate.mean, "reward_low": estimate.low, "reward_high": estimate.high}
      metrics |= {f"eval/{name}/{metric}": value for metric, value in found.items()}
      for engine in (each.engine, each.greedy):
        if engine is not None:
          engine.unload()
    return metrics, groups

  def _judged_draws(self, engine: Engine) -> answers.Generate:
    return lambda prompts, samples: shared(prompts, lambda own: self._judge(engine.generate(own, samples)))


def _sizes(section: SetsSettings, rollout: EngineSettings | None, *, longest: int, share: int) -> Sizes:
  """Returns the sizes of a set's engine, which are this process's part.

  Args:
    section: has slots and cap.
    rollout: the training's; None for an engine's own choice of all else.
    longest: tokens of the longest prompt.
    share: answers that read one copy of their prompt.
  """
  slots, cap = part_of(section.slots, "eval.slots"), section.max_new_tokens
  if rollout is None:
    return Sizes(slots=slots, max_prompt_length=longest, max_new_tokens=cap, share=share)
  return dataclasses.replace(own_sizes(rollout, longest, share), slots=slots, max_new_tokens=cap)
