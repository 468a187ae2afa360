"""Finds where general data does not move a model, and how far training moved it there.

Both are stages between others. The first one's file is what `optimizer.null_space` reads (`learner.null_space`).
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from posttrain_jax.assembly.model import Policy, of_same_sizes, open_policy
from posttrain_jax.assembly.plain_text import documents, read_texts
from posttrain_jax.evaluation import general_text
from posttrain_jax.evaluation.metrics import estimate
from posttrain_jax.learner import null_space
from posttrain_jax.models import flops
from posttrain_jax.recipes.alignment import AskedModel
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError

NULL_SPACE = "null_space.npz"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextSettings:
  """Describes general text.

  Attributes:
    path: FILE.jsonl or FILE.jsonl.gz.
    field: the column that has the text.
    limit: at most this many texts; 0 for all.
    row_length: texts are cut at this many tokens.
  """

  path: str
  field: str
  limit: int = at_least(0)
  row_length: int = at_least(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NullSpaceSearch:
  """Holds the config of a search for null spaces.

  Attributes:
    model: the model that training will start from.
    text: what its outputs shall be kept on.
    threshold: share of a layer's largest eigenvalue up to which an eigenvalue counts as 0 (the paper's code: 5e-5).
  """

  model: AskedModel
  text: TextSettings
  threshold: float

  def __post_init__(self):
    """Raises InputError if the threshold is no share."""
    if not 0 <= self.threshold < 1:
      raise InputError(f"threshold: {self.threshold}, expected 0 or more and less than 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitMoves:
  """Holds the config of a measurement of moved logits.

  Attributes:
    seed: of the intervals.
    model: what was trained.
    reference: PATH_OR_NAME of the model that it was trained from.
    texts: general texts by name, such as those that null spaces were found on, and new ones.
  """

  seed: int
  model: AskedModel
  reference: str
  texts: Mapping[str, TextSettings]


def search(*, limit: int, row_length: int, threshold: float = 5e-5) -> ConfigDict:
  """Returns the config of a search for null spaces; `model.path` and `text.path` are inputs."""
  return ConfigDict(dict(model=dict(path=""), text=_text(limit, row_length), threshold=threshold))


def moves(*names: str, limit: int, row_length: int) -> ConfigDict:
  """Returns the config of a measurement; inputs are `model.path`, `reference` and `texts.NAME.path`."""
  texts = {name: _text(limit, row_length) for name in names}
  return ConfigDict(dict(seed=0, model=dict(path=""), reference="", texts=texts))


def _text(limit: int, row_length: int) -> dict:
  return dict(path="", field="text", limit=limit, row_length=row_length)


def find_null_spaces(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Finds the null spaces of all MLP matrices on general text.

  Args:
    config: a record `NullSpaceSearch`.
    folder: DIR; gets null_space.npz.

  Returns:
    "tokens"; "layer_I/input_rank" and "layer_I/hidden_rank", the dimensions of layer I's null spaces; and
    "smallest_rank". A layer whose rank is 0 does not learn.

  Raises:
    InputError: if model or text cannot be read.
  """
  settings = parse(NullSpaceSearch, config)
  policy = open_policy(settings.model.path)
  sums, tokens = general_text.second_moments(policy, _tokens(settings.text, policy))
  moved, ranks = {}, {}
  for name, moments in sums.items():
    found = [null_space.null_space(each, settings.threshold) for each in moments]
    widest = max(columns.shape[1] for columns, _ in found)
    padded = [np.pad(columns, [(0, 0), (0, widest - columns.shape[1])]) for columns, _ in found]
    moved[name], ranks[name] = np.stack(padded).astype(np.float32), np.array([rank for _, rank in found])
  null_space.save(folder / NULL_SPACE, null_space.NullSpaces(moved, ranks))
  flat = {f"layer_{layer}/{name}_rank": int(rank) for name, each in ranks.items() for layer, rank in enumerate(each)}
  return {"tokens": tokens, **flat, "smallest_rank": int(min(each.min() for each in ranks.values()))}


def measure_moves(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Measures how far training moved the logits on general texts.

  Args:
    config: a record `LogitMoves`.
    folder: is left empty.

  Returns:
    Of each text by name: "NAME/largest", the largest absolute difference of any logit, which is its own interval, and
    "NAME/mean" with its 95 % interval, the mean over texts of each one's largest.

  Raises:
    InputError: if a model or a text cannot be read, or if the models differ in size.
  """
  del folder
  settings = parse(LogitMoves, config)
  policy, reference = open_policy(settings.model.path), open_policy(settings.reference)
  if not of_same_sizes(policy.model, reference.model):
    raise InputError("reference: is a model of other sizes, expected the model that the other was trained from")
  found = {}
  for name, text in settings.texts.items():
    each = general_text.logit_moves(policy, reference, _tokens(text, policy))
    mean = estimate(each.astype(np.float64), seed=settings.seed)
    found |= {f"{name}/largest{end}": float(each.max()) for end in ("", "_low", "_high")}
    found |= {f"{name}/mean": mean.mean, f"{name}/mean_low": mean.low, f"{name}/mean_high": mean.high}
  return found


def forecast_search(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates one forward pass over the text."""
  return _read(config, known, [config.text], 1)


def forecast_moves(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the forward passes of both models over all texts."""
  return _read(config, known, list(config.texts.values()), 2)


def _read(config: ConfigDict, known: Forecast, texts: list[ConfigDict], passes: int) -> Effort:
  model, _ = known.policy(config.model)
  tokens = sum(min(known.count(each.path), each.limit or math.inf) * known.length(each.row_length) for each in texts)
  return Effort(sampling_flops=passes * flops.forward(model, tokens=tokens, pairs=0, logits=0))


def _tokens(text: TextSettings, policy: Policy) -> list[np.ndarray]:
  rows, _ = read_texts(text.path, field=text.field, limit=text.limit)
  return [each.tokens for each in documents(rows, policy.tokenizer, field=text.field, row_length=text.row_length)]
