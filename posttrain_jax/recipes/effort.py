"""Counts the work of a stage: examples, tokens and floating-point operations (FLOPs)."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from posttrain_jax.models import flops
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.runs.journal import METRICS_FILE, read_metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class Effort:
  """Holds the work of a stage, as estimated before it or as counted after it.

  Attributes:
    examples: rows that are trained on, or prompts that are answered.
    generated: tokens that are drawn.
    trained: tokens with a loss, each time that it is trained on.
    sampling_flops: FLOPs of drawing and scoring.
    training_flops: FLOPs of updates, and of the logprobs that they need.
    rows: name of a file that the stage writes to its estimated number of rows.
  """

  examples: int = 0
  generated: int = 0
  trained: int = 0
  sampling_flops: float = 0.0
  training_flops: float = 0.0
  rows: Mapping[str, int] = dataclasses.field(default_factory=dict)

  @property
  def flops(self) -> float:
    """Returns all FLOPs."""
    return self.sampling_flops + self.training_flops

  def with_tokens(self, *, generated: int | None, trained: int | None) -> "Effort":
    """Returns the effort with the tokens that were counted, and FLOPs in proportion.

    Args:
      generated: tokens that were drawn; None keeps the estimate.
      trained: tokens that were trained on; None keeps the estimate.
    """
    generated = self.generated if generated is None else generated
    trained = self.trained if trained is None else trained
    return dataclasses.replace(
      self,
      generated=generated,
      trained=trained,
      sampling_flops=_scaled(self.sampling_flops, generated, self.generated),
      training_flops=_scaled(self.training_flops, trained, self.trained),
    )

  def to_json(self) -> dict[str, Any]:
    """Returns a JSON object."""
    return dataclasses.asdict(self) | {"rows": dict(self.rows)}


def drawing(model: TransformerConfig, *, examples: int, tokens: int, rows: Mapping[str, int] | None = None) -> Effort:
  """Returns the effort of drawing answers; attention within them is not counted.

  Args:
    model: which draws.
    examples: prompts that are answered.
    tokens: of all answers.
    rows: as in `Effort`.
  """
  work = flops.forward(model, tokens=tokens, pairs=0, logits=tokens)
  return Effort(examples=examples, generated=tokens, sampling_flops=work, rows=rows or {})


def counted(folder: pathlib.Path, estimate: Effort, metrics: Mapping[str, Any]) -> Effort:
  """Returns the effort of a stage that has ended, from its metrics.jsonl.

  Where nothing is counted the estimate stands.

  Args:
    folder: the stage's.
    estimate: made before it ran.
    metrics: what its runner returned, where it has no metrics.jsonl: "examples" and "tokens_generated" are read.
  """
  if not (folder / METRICS_FILE).exists():
    made = dataclasses.replace(estimate, examples=int(metrics.get("examples", estimate.examples)))
    return made.with_tokens(generated=metrics.get("tokens_generated"), trained=None)
  records = read_metrics(folder)
  examples = next((record["data/examples"] for record in records if "data/examples" in record), None)
  examples = next((record["data/comparisons"] for record in records if "data/comparisons" in record), examples)
  found = estimate if examples is None else dataclasses.replace(estimate, examples=int(examples))
  trained = _sum(records, "sampling/tokens_trained")
  return found.with_tokens(
    generated=_sum(records, "sampling/tokens_generated"),
    trained=_sum(records, "tokens") if trained is None else trained + _text_tokens(records),
  )


def from_json(content: str | Mapping[str, Any]) -> Effort:
  """Makes the effort that `Effort.to_json` describes."""
  return Effort(**(json.loads(content) if isinstance(content, str) else content))


def _sum(records: list[dict[str, Any]], key: str) -> int | None:
  values = [record[key] for record in records if isinstance(record.get(key), int | float)]
  return int(sum(values)) if values else None


def _text_tokens(records: list[dict[str, Any]]) -> int:
  """Counts the tokens of PPO-ptx's text.

  In each step they are the mean of an update, for all of its updates.
  """
  before, found = 0, 0.0
  for record in records:
    updates = record.get("updates", before)
    found += record.get("ptx/tokens", 0.0) * (updates - before)
    before = updates
  return round(found)


def _scaled(flops: float, count: int, estimated: int) -> float:
  return flops * count / estimated if estimated else flops
