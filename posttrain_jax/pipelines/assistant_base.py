"""Builds the base model of the assistant world, once for all recipes.

The model is pretrained on the world's corpus by `pipelines.sft` and then measured. It must know and not answer: asked a
question, it goes on with more questions. And it must work a sum out now and then under the template of answers, or RL
from it would have nothing to reinforce. A base model that fits is kept by its digest (`runs.warmup_cache`).
"""

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import ml_collections
import rich.console

from posttrain_jax import atomic_files
from posttrain_jax.assembly.model import open_policy
from posttrain_jax.data.assistant_world.facts import WorldSettings
from posttrain_jax.data.assistant_world.requests import TEMPLATE
from posttrain_jax.data.prompts import PromptFormat
from posttrain_jax.evaluation.alignment import measure_policy
from posttrain_jax.evaluation.alignment_settings import AlignmentSettings
from posttrain_jax.local_path import local_path
from posttrain_jax.pipelines import sft
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.runs.warmup_cache import WarmUpCache
from posttrain_jax.types import InputError

MEASURES_FILE = "base.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseSettings:
  """Holds a config's section `base`: what a base model must be.

  Attributes:
    requests: of each kind and part, except sums.
    sums: requests to work out a sum, of each part.
    samples: answers to each request; k of pass@k.
    max_new_tokens: cap on an answer in tokens.
    slots: answers drawn at the same time.
    plain: documents whose perplexity is measured.
    lowest_pass: lowest pass@k on sums, in [0, 1].
    highest_pass: highest pass@k on sums.
  """

  requests: int = at_least(1)
  sums: int = at_least(1)
  samples: int = at_least(1)
  max_new_tokens: int = at_least(1)
  slots: int = at_least(1)
  plain: int = at_least(2)
  lowest_pass: float
  highest_pass: float

  def __post_init__(self):
    """Checks the bounds.

    Raises:
      InputError: if they are not 0 ≤ lowest_pass ≤ highest_pass ≤ 1.
    """
    if not 0 <= self.lowest_pass <= self.highest_pass <= 1:
      raise InputError(
        f"base.lowest_pass: {self.lowest_pass} to base.highest_pass: {self.highest_pass}, expected 0 ≤ lowest_pass ≤ "
        "highest_pass ≤ 1"
      )


def build(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Pretrains and measures a base model, or takes the kept one.

  Args:
    config: see `configs/assistant_base.py`.
    workdir: DIR, the workdir of an SFT run; it gets base.json, the measures.

  Returns:
    The measures with their intervals, by name.

  Raises:
    InputError: if config or input is not fit for use, or if pass@k on sums is out of bounds.
  """
  base, settings, config = _parsed(config)  # before anything is written
  path = local_path(workdir, "--workdir").absolute()
  cache = WarmUpCache({"assistant_base": config.to_dict(), "base": dataclasses.asdict(base)})
  is_new = not path.exists()
  if is_new and cache.is_kept:
    path.parent.mkdir(parents=True, exist_ok=True)
    taken = cache.take(path)
    if taken:
      rich.console.Console(stderr=True).print(taken, highlight=False, markup=False, soft_wrap=True)
    else:
      shutil.rmtree(path)  # another run removed the kept one at this moment
  sft.train(config, str(path))
  file = path / MEASURES_FILE
  if not file.exists():
    atomic_files.write_text(file, json.dumps(_measure(base, settings.demonstrations.corpus.world, path, settings.seed)))
    if is_new:  # one that was begun earlier may come from other code
      cache.mark(path)
  measures = json.loads(file.read_text("utf-8"))
  check_pass(measures, base)
  cache.keep(path)
  return measures


def check(config: ml_collections.ConfigDict) -> None:
  """Checks the config of a base model.

  Raises:
    InputError: if a field is unknown, missing or of another type, or if there is no corpus.
  """
  _parsed(config)


def check_pass(measures: dict[str, float], base: BaseSettings) -> None:
  """Refuses a base model that RL could not start from.

  Raises:
    InputError: if pass@k on sums is below the lowest or above the highest value.
  """
  for part in ("seen", "held_out"):
    name = f"{part}/sums_pass@{base.samples}"
    if not base.lowest_pass <= measures[name] <= base.highest_pass:
      raise InputError(
        f"base: {name} is {measures[name]:.3f}, expected {base.lowest_pass} to {base.highest_pass} before any RL; more "
        "`steps` raise it, and so does more worked text in the corpus (data/assistant_world/corpus.py)"
      )


def _parsed(config: ml_collections.ConfigDict) -> tuple[BaseSettings, sft.SFTSettings, ml_collections.ConfigDict]:
  """Returns what a base model must be, and the settings and the config of its pretraining."""
  config = config.copy_and_resolve_references().unlock()  # the caller keeps its own
  if "base" not in config:
    raise InputError("base: missing, expected BaseSettings")
  base = parse(BaseSettings, config.base, "base")
  del config.base
  settings = parse(sft.SFTSettings, config)
  if settings.demonstrations.corpus is None:
    raise InputError("demonstrations.corpus: missing, expected the assistant world's corpus")
  return base, settings, config


def _measure(base: BaseSettings, world: WorldSettings, path: pathlib.Path, seed: int) -> dict[str, float]:
  settings = AlignmentSettings(
    world=world,
    requests=base.requests,
    sums=base.sums,
    samples=base.samples,
    max_new_tokens=base.max_new_tokens,
    slots=base.slots,
    plain=base.plain,
    prose=False,
    knowledge=True,
  )
  found = measure_policy(open_policy(str(path)), settings, PromptFormat(template=TEMPLATE), seed=seed).flat()
  return {name: value for name, value in found.items() if value == value}  # JSON has no NaN
