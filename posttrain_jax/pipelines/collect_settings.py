"""Describes the config of a collection, as `pipelines.collect` makes it."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.assembly.generative_judge import GenerativeJudgeSettings, refuse_two_judges
from posttrain_jax.assembly.judges import RewardSettings
from posttrain_jax.assembly.model import ModelSettings
from posttrain_jax.assembly.prompts import PromptSettings
from posttrain_jax.assembly.rollout_engine import EngineSettings
from posttrain_jax.data import distillation, rejection
from posttrain_jax.data.rejection import Candidates
from posttrain_jax.pipelines.warm_up import WarmUpSettings
from posttrain_jax.runs.settings import at_least
from posttrain_jax.types import InputError


class DemonstrationSource(enum.StrEnum):
  """Names where demonstrations come from."""

  REJECTION_SAMPLING = "rejection_sampling"
  DISTILLATION = "distillation"
  EDITED = "edited"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CandidateSettings(EngineSettings):
  """Holds the `rollout` section.

  Attributes:
    prompts: prompts that are answered and judged at a time.
    samples: K, answers to each.
  """

  prompts: int = at_least(1)
  samples: int = at_least(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
  """Holds the `selection` section; `data.rejection.select` says what its fields mean."""

  keep: int
  threshold: float
  dedupe: bool

  def __call__(self, candidates: Sequence[Candidates]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Returns the rows that are kept, and counts."""
    return rejection.select(candidates, keep=self.keep, threshold=self.threshold, dedupe=self.dedupe)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillationSettings:
  """Holds the `distillation` section.

  Attributes:
    system: asks the teacher for reflection; empty for `data.distillation.REFLECTION_PROMPT` in a chat, nothing in text.
    original: the column that has the original answer.
    original_template: text around it, which stands for {original}.
  """

  system: str
  original: str
  original_template: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledCollection:
  """Holds the config of rejection sampling or distillation; `configs/tiny_collect.py` says what its fields mean."""

  source: DemonstrationSource
  seed: int
  model: ModelSettings
  mesh: Mapping[str, int]
  warmup: WarmUpSettings
  prompts: PromptSettings
  rollout: CandidateSettings
  rewards: RewardSettings
  reward_model: str
  selection: Selection
  distillation: DistillationSettings | None = None
  judge: GenerativeJudgeSettings | None = None

  def __post_init__(self):
    """Raises InputError if fields contradict each other."""
    refuse_two_judges(self.reward_model, self.judge)
    self.selection([])  # raises on what it cannot work with
    if self.source != DemonstrationSource.DISTILLATION:
      return
    if self.distillation is None:
      raise InputError("distillation: missing, expected the group of its fields, as in configs/tiny_distillation.py")
    if self.prompts.system:
      raise InputError(f"prompts.system: {self.prompts.system!r}, expected none; the teacher's is distillation.system")
    if self.selection.keep != 1:
      raise InputError(f"selection.keep: {self.selection.keep}, expected 1, one answer of the teacher to a problem")
    if "{original}" not in self.distillation.original_template:
      raise InputError(f"distillation.original_template: {self.distillation.original_template!r} has no '{{original}}'")

  @property
  def teacher_system(self) -> str:
    """Returns the system prompt of the teacher."""
    return self.distillation.system or (distillation.REFLECTION_PROMPT if self.prompts.chat else "")

  @property
  def asking(self) -> PromptSettings:
    """Returns the prompts section for the model that answers.

    In distillation it has the teacher's system prompt.
    """
    if self.source != DemonstrationSource.DISTILLATION:
      return self.prompts
    if self.prompts.chat:
      return dataclasses.replace(self.prompts, system=self.teacher_system)
    return dataclasses.replace(self.prompts, template=self.teacher_system + self.prompts.template)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditedSettings:
  """Holds the `edited` section.

  Attributes:
    path: FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT of prompt, edited, chosen and rejected; empty for procedural
      ones.
    per_difficulty: procedural problems of each number of steps.
    noise: probability that the procedural grader takes the worse answer for the better.
    seed: of the procedural rows.
  """

  path: str
  per_difficulty: int
  noise: float
  seed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditedCollection:
  """Holds the config of edited answers, `configs/tiny_edited.py`."""

  source: DemonstrationSource
  edited: EditedSettings
