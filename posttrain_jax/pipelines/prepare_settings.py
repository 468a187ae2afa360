"""Describes the config of a preparation of raw text, as `pipelines.prepare` does it."""

import dataclasses

from posttrain_jax.data.prepare.contamination import ContaminationRule
from posttrain_jax.data.prepare.documents import InputSettings
from posttrain_jax.data.prepare.language import LanguageRule
from posttrain_jax.data.prepare.quality import LengthRule, SymbolRule
from posttrain_jax.data.prepare.repetition import RepetitionRule
from posttrain_jax.data.prepare.signatures import NearSettings
from posttrain_jax.data.prepare.toxicity import ToxicityRule
from posttrain_jax.runs.settings import at_least
from posttrain_jax.types import InputError

RULES = ("length", "symbols", "language", "repetition", "toxicity", "contamination")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareSettings:
  """Holds the config of a preparation; `configs/prepare.py` says what its fields mean.

  Attributes:
    rules: names of the rules that are asked, in this order.
    exact: whether documents with the same text as an earlier one are dropped.
    shard_megabytes: text of a shard, in 10⁶ bytes.
    samples: dropped documents of each step in the report.
    workers: processes; 0: as many as there are cores.
  """

  seed: int = at_least(0)
  workers: int = at_least(0)
  input: InputSettings
  rules: tuple[str, ...]
  length: LengthRule
  symbols: SymbolRule
  language: LanguageRule
  repetition: RepetitionRule
  toxicity: ToxicityRule
  contamination: ContaminationRule
  exact: bool
  near: NearSettings
  shard_megabytes: int = at_least(1)
  samples: int = at_least(0)

  def __post_init__(self):
    """Raises InputError if a rule is unknown or named twice."""
    for rule in self.rules:
      if rule not in RULES or self.rules.count(rule) > 1:
        raise InputError(f"rules: {rule!r}, expected names out of {', '.join(RULES)}, each at most once")

  @property
  def asked(self) -> tuple[str, ...]:
    """Names the rules that are asked; those that look for listed things need a list."""
    is_empty = {
      "toxicity": not (self.toxicity.words or self.toxicity.path),
      "contamination": not self.contamination.paths,
    }
    return tuple(rule for rule in self.rules if not is_empty.get(rule))
