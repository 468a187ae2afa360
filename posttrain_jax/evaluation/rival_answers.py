"""Reads or draws the answers of several models to the same prompts.

A file of answers is taken as it is; a model is asked.
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

from posttrain_jax.assembly.model import open_policy, read_config
from posttrain_jax.assembly.prompt_format import own_format
from posttrain_jax.assembly.rollout_engine import SamplingSettings
from posttrain_jax.data.prompts import PROMPT_FIELDS, Row, own_prompt, read_jsonl
from posttrain_jax.evaluation.generate import generate
from posttrain_jax.local_path import local_path
from posttrain_jax.types import InputError

_FILES = (".jsonl", ".jsonl.gz")
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*)=(.+)")


@dataclasses.dataclass(frozen=True)
class Rival:
  """Names a model that is compared.

  Attributes:
    name: in tables and results.
    path: PATH_OR_NAME of the model, or FILE.jsonl of its answers.
  """

  name: str
  path: str

  @property
  def is_file(self) -> bool:
    """Tells whether its answers are in a file."""
    return self.path.endswith(_FILES)


def parse_rivals(given: Sequence[str]) -> list[Rival]:
  """Reads `--models`: PATH_OR_NAME, FILE.jsonl, or NAME= before one of them.

  Raises:
    InputError: if there are fewer than two, or if two have the same name.
  """
  found = []
  for each in given:
    match = _NAMED.fullmatch(each)
    path = match[2] if match else each
    found.append(Rival(match[1] if match else re.sub(r"\.jsonl(\.gz)?$", "", local_path(path).name), path))
  names = [each.name for each in found]
  if len(found) < 2:
    raise InputError(f"--models={','.join(given)}: {len(found)} model, expected two or more with commas between them")
  for name in names:
    if names.count(name) > 1 or not name:
      raise InputError(f"--models: two are named {name!r}, expected other names: NAME={found[names.index(name)].path}")
  return found


def check_rivals(rivals: Sequence[Rival]) -> None:
  """Refuses models that are not there, or that do not answer, before any is loaded.

  Raises:
    InputError: if one is.
  """
  for each in rivals:
    if not each.is_file and read_config(each.path).scalar_head:
      raise InputError(f"--models: {each.path} is a reward model, expected language models")


def answers_of(
  rival: Rival, rows: Sequence[Row], sampling: SamplingSettings, *, samples: int, max_new_tokens: int, seed: int
) -> list[list[str]]:
  """Returns a model's answers to prompts.

  Args:
    rival: the model, which is asked in its own format; or a file, which answers the same prompts.
    rows: the prompts.
    sampling: how answers are drawn; a file is taken as it is.
    samples: answers to each prompt.
    max_new_tokens: cap on an answer.
    seed: of the draws.

  Raises:
    InputError: if the model or the file cannot be read, or if a prompt has too few answers.
  """
  if rival.is_file:
    return _read(rival.path, rows, samples)
  policy = open_policy(rival.path)
  asked = own_format(rival.path, policy.tokenizer)
  return generate(policy, list(rows), asked, sampling, max_new_tokens=max_new_tokens, samples=samples, seed=seed)


def _read(path: str, rows: Sequence[Row], samples: int) -> list[list[str]]:
  """Reads rows {"prompt", "answers": [...]}, as experiments.generate writes them, or {"prompt", "completion"}."""
  known: dict[str, list[str]] = {}
  for row in read_jsonl(path):
    columns = row.columns
    said = columns["answers"] if "answers" in columns else [columns.get("completion")]
    if not isinstance(said, list) or not all(isinstance(text, str) for text in said):
      raise InputError(f"{row.source}: expected the texts 'answers': [...] or 'completion'")
    if all(columns.get(name) is None for name in PROMPT_FIELDS):
      raise InputError(f"{row.source}: found columns {', '.join(columns)}; expected 'prompt' or 'messages'")
    known.setdefault(_key(columns), []).extend(said)
  found = []
  for row in rows:
    answers = known.get(_key(row.columns), [])
    if len(answers) < samples:
      raise InputError(f"{path}: {len(answers)} answers to the prompt of {row.source}, expected {samples} (--samples)")
    found.append(answers[:samples])
  return found


def _key(columns: Any) -> str:
  return json.dumps(own_prompt(columns), sort_keys=True)
