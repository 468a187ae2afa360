"""Keeps a study in a directory: what is rated, by whom, and under which settings.

DIR gets study.json (settings, and digests of the files that were read), items.jsonl and checks.jsonl (copies of the
rows), instructions.md, and events.jsonl (what raters did). So a study goes on, and is exported, without the files that
it was made from.
"""

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax import atomic_files
from posttrain_jax.data import jsonl_text, prompts, sources
from posttrain_jax.labelling import assignment
from posttrain_jax.labelling.items import Item, RatingKind, read_items
from posttrain_jax.labelling.labels import LabelRules
from posttrain_jax.local_path import local_path
from posttrain_jax.types import InputError

STUDY, ITEMS, CHECKS, INSTRUCTIONS, EVENTS = (
  "study.json",
  "items.jsonl",
  "checks.jsonl",
  "instructions.md",
  "events.jsonl",
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_MOST_INSTRUCTIONS = 200_000  # characters


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudySettings:
  """Holds the settings of a study, which stay the same as long as it runs.

  Attributes:
    kind: what raters do.
    raters: their names.
    overlap: how many raters see an item.
    check_every: number of items for one hidden check; 0 for none.
    ties: whether two answers may be about the same.
    edits: whether raters may edit the answer that they prefer or accept.
    most_characters: of a text that a rater writes.
    seed: of assignment, order and sides.
  """

  kind: RatingKind
  raters: tuple[str, ...]
  overlap: int
  check_every: int
  ties: bool
  edits: bool
  most_characters: int
  seed: int

  def __post_init__(self):
    """Checks names and numbers.

    Raises:
      InputError: if a name has other characters than letters, digits, and `_.-`, or stands twice; or if a number is too
        small.
    """
    for name in self.raters:
      if not _NAME.fullmatch(name):
        raise InputError(f"--raters: {name!r}, expected names of 1 to 40 letters, digits and any of _.-")
    if len(set(self.raters)) < len(self.raters) or not self.raters:
      raise InputError(f"--raters={','.join(self.raters)}: expected one or more different names")
    assignment.check_overlap(self.raters, self.overlap)
    if self.check_every < 0 or self.most_characters < 1:
      raise InputError(f"--check_every={self.check_every}, --most_characters={self.most_characters}: too small")

  @property
  def rules(self) -> LabelRules:
    """Returns what raters may say."""
    return LabelRules(self.kind, self.ties, self.edits, self.most_characters)


@dataclasses.dataclass(frozen=True)
class LabelStudy:
  """Holds a study.

  Attributes:
    path: its directory.
    settings: its settings.
    items: what is rated, by name.
    checks: items whose right label is known, by name.
    instructions: Markdown for the raters; empty for none.
  """

  path: pathlib.Path
  settings: StudySettings
  items: Mapping[str, Item]
  checks: Mapping[str, Item]
  instructions: str

  def item(self, name: str) -> Item:
    """Returns an item or a check."""
    return self.items[name] if name in self.items else self.checks[name]

  def queues(self) -> dict[str, list[str]]:
    """Returns the names of each rater's items and checks in order."""
    names, settings = list(self.items), self.settings
    given = assignment.assign(len(names), settings.raters, overlap=settings.overlap, seed=settings.seed)
    options = dict(every=settings.check_every, seed=settings.seed)
    return {
      rater: assignment.with_checks([names[i] for i in queue], list(self.checks), rater=rater, **options)
      for rater, queue in given.items()
    }

  def order(self, rater: str, item: str) -> list[int]:
    """Returns which answer stands at each place of a rater's page."""
    return assignment.order_of(len(self.item(item).answers), item=item, rater=rater, seed=self.settings.seed)


def start(
  workdir: str, settings: StudySettings, *, path: str, checks: str | None = None, instructions: str | None = None
) -> tuple[LabelStudy, int]:
  """Makes a study, or goes on with one of the same files and settings.

  Args:
    workdir: DIR; must be the study's, or empty, or not exist yet.
    settings: its settings.
    path: the rows to rate: FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT.
    checks: rows whose right label is known; None for none.
    instructions: a Markdown file; None for none.

  Returns:
    (the study, number of rows that are left out, see `items.read_items`).

  Raises:
    InputError: if a file cannot be read or a row is malformed, if checks are asked for and missing or the other way
      round, or if DIR has something else or another study; the first difference is named.
  """
  if bool(settings.check_every) != (checks is not None):
    raise InputError(
      f"--checks={checks or ''}, --check_every={settings.check_every}: expected both, a file and a number above 0, or "
      "neither"
    )
  rows, digest = sources.read_rows(path)
  digests = {"input": digest, "checks": "", "instructions": ""}
  items, left_out = read_items(rows, settings.kind)
  known, text = [], ""
  if checks is not None:
    check_rows, digests["checks"] = sources.read_rows(checks)
    known, _ = read_items(check_rows, settings.kind, are_checks=True)
  if instructions is not None:
    text = jsonl_text.read_text(local_path(instructions, "--instructions"))
    digests["instructions"] = hashlib.sha256(text.encode()).hexdigest()
    if len(text) > _MOST_INSTRUCTIONS:
      raise InputError(f"--instructions: {len(text)} characters, expected at most {_MOST_INSTRUCTIONS}")
  folder = local_path(workdir, "--workdir").absolute()
  content = {**_plain(settings), "left_out": left_out, "digests": digests}
  if (folder / STUDY).exists():
    _refuse_difference(folder / STUDY, content)
    return load(workdir), left_out
  _refuse_foreign(folder)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    atomic_files.write_rows(folder / ITEMS, [item.columns for item in items])
    atomic_files.write_rows(folder / CHECKS, [item.columns for item in known])
    atomic_files.write_text(folder / INSTRUCTIONS, text)
    atomic_files.write_text(folder / STUDY, json.dumps(content, indent=2) + "\n")  # the last: a study is whole
  except OSError as error:
    raise InputError(f"--workdir={workdir}: {error.strerror}, expected a directory to write to") from None
  return load(workdir), left_out


def load(workdir: str) -> LabelStudy:
  """Reads the study in a directory.

  Raises:
    InputError: if there is none, or a file of it is broken.
  """
  folder = local_path(workdir, "--workdir").absolute()
  content = _read(folder / STUDY)
  try:
    fields = {field.name: content[field.name] for field in dataclasses.fields(StudySettings)}
    settings = StudySettings(**{**fields, "kind": RatingKind(fields["kind"]), "raters": tuple(fields["raters"])})
  except (KeyError, ValueError, TypeError) as error:
    raise InputError(f"{folder / STUDY}: {type(error).__name__}: {error}, expected a study's settings") from None
  items, _ = read_items(prompts.read_jsonl(folder / ITEMS), settings.kind)
  checks = (
    read_items(prompts.read_jsonl(folder / CHECKS), settings.kind, are_checks=True)[0] if settings.check_every else []
  )
  instructions = jsonl_text.read_text(folder / INSTRUCTIONS)
  return LabelStudy(folder, settings, _by_name(items), _by_name(checks), instructions)


def _by_name(items: Sequence[Item]) -> dict[str, Item]:
  return {item.name: item for item in items}


def _plain(settings: StudySettings) -> dict[str, Any]:
  return {**dataclasses.asdict(settings), "kind": str(settings.kind), "raters": list(settings.raters)}


def _read(file: pathlib.Path) -> dict[str, Any]:
  try:
    content = json.loads(file.read_text("utf-8"))
  except FileNotFoundError:
    raise InputError(f"--workdir={file.parent}: found no {file.name}, expected a study; --input starts one") from None
  except (OSError, ValueError) as error:
    raise InputError(f"{file}: cannot be read ({error}), expected a JSON object") from None
  if not isinstance(content, dict):
    raise InputError(f"{file}: found {type(content).__name__}, expected a JSON object")
  return content


def _refuse_difference(file: pathlib.Path, now: Mapping[str, Any]) -> None:
  started = _read(file)
  for name, value in now.items():
    if name == "digests":
      for what, digest in value.items():
        if started.get(name, {}).get(what) != digest:
          raise InputError(f"{file}: the file of --{what} is another one than when the study started")
    elif started.get(name) != value:
      raise InputError(f"{file}: {name} was {started.get(name)!r} when the study started, found {value!r} now")


def _refuse_foreign(folder: pathlib.Path) -> None:
  if not folder.exists():
    return
  if not folder.is_dir():
    raise InputError(f"--workdir={folder}: found a file, expected a directory")
  ours = {name + end for name in (STUDY, ITEMS, CHECKS, INSTRUCTIONS) for end in ("", ".tmp")}
  others = sorted(entry.name for entry in folder.iterdir() if entry.name not in ours)
  if others:
    raise InputError(f"--workdir={folder}: found {others[0]!r} and no {STUDY}, expected an empty directory or a study")
