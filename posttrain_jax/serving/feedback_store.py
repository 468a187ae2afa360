"""Stores what people say of answers, in files that training reads.

| file | rows | read by |
|---|---|---|
| votes.jsonl | one answer over another | reward_model, dpo, compare |
| ties.jsonl | two equally good answers | compare |
| edits.jsonl | an edited answer, over the model's own | sft, reward_model, dpo |
| liked.jsonl | an answer with a thumb up | sft, and dpo (KTO) with disliked.jsonl |
| disliked.jsonl | an answer with a thumb down | dpo (KTO) with liked.jsonl |

If one client likes an answer and dislikes another one to the same prompt, that is a vote, too.
"""

import contextlib
import enum
import json
import pathlib
import threading
from collections.abc import Mapping
from typing import Any

from posttrain_jax.data.prompts import read_jsonl
from posttrain_jax.local_path import local_path
from posttrain_jax.runs.appended_rows import AppendedRows
from posttrain_jax.serving import feedback_rows
from posttrain_jax.serving.feedback_rows import GivenAnswer, Messages, Origin
from posttrain_jax.types import InputError


class FeedbackFile(enum.StrEnum):
  """Names the files of a folder of feedback."""

  VOTES = "votes.jsonl"
  TIES = "ties.jsonl"
  EDITS = "edits.jsonl"
  LIKED = "liked.jsonl"
  DISLIKED = "disliked.jsonl"


class FeedbackStore:
  """Appends feedback to the files of a folder. Its methods may be called from any thread."""

  def __init__(self, folder: str | pathlib.Path):
    """Opens the folder's files, or makes them; all stay open to this process alone.

    Args:
      folder: is made if it is not there.

    Raises:
      InputError: if it cannot be made, if another process has it open, or if a line in it is no row.
    """
    folder = local_path(folder, "--feedback")
    try:
      folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise InputError(f"--feedback={folder}: {error.strerror}, expected a folder") from None
    self._lock, self._ids = threading.Lock(), set()
    self._thumbs: dict[tuple[str, str, bool], GivenAnswer] = {}  # (client, prompt, up) → the newest
    with contextlib.ExitStack() as opened:
      self._files = {name: opened.enter_context(AppendedRows(folder / name)) for name in FeedbackFile}
      for name in FeedbackFile:
        for row in read_jsonl(folder / name) if (folder / name).stat().st_size else ():
          self._remember(name, row.columns)
      self._opened = opened.pop_all()

  def add_vote(self, prompt: str | Messages, better: GivenAnswer, worse: GivenAnswer, origin: Origin) -> bool:
    """Stores that one answer is better than another.

    Returns:
      Whether it was new; what is sent twice is stored once. So do all methods of this kind.
    """
    return self._add(FeedbackFile.VOTES, feedback_rows.vote(prompt, better, worse, origin))

  def add_tie(self, prompt: str | Messages, first: GivenAnswer, second: GivenAnswer, origin: Origin) -> bool:
    """Stores that two answers are equally good."""
    return self._add(FeedbackFile.TIES, feedback_rows.tie(prompt, first, second, origin))

  def add_edit(self, prompt: str | Messages, answer: GivenAnswer, edited: str, origin: Origin) -> bool:
    """Stores an edited answer."""
    return self._add(FeedbackFile.EDITS, feedback_rows.edit(prompt, answer, edited, origin))

  def add_thumb(self, prompt: str | Messages, answer: GivenAnswer, up: bool, origin: Origin) -> bool:
    """Stores whether an answer is liked, and the vote that this makes with an earlier thumb."""
    file = FeedbackFile.LIKED if up else FeedbackFile.DISLIKED
    other = self._thumbs.get((origin.client, _key(prompt), not up))
    if not self._add(file, feedback_rows.thumb(prompt, answer, up, origin)):
      return False
    if other is not None and other.text != answer.text:
      pair = (answer, other) if up else (other, answer)
      row = feedback_rows.vote(prompt, *pair, Origin(origin.client, f"{origin.id}-pair", origin.time))
      self._add(FeedbackFile.VOTES, {**row, "by": "thumbs"})
    return True

  def close(self) -> None:
    """Closes the files."""
    self._opened.close()

  def __enter__(self) -> "FeedbackStore":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()

  def _add(self, file: FeedbackFile, row: Mapping[str, Any]) -> bool:
    with self._lock:
      if row["id"] in self._ids:
        return False
      self._files[file].append(row)
      self._remember(file, row)
      return True

  def _remember(self, file: FeedbackFile, row: Mapping[str, Any]) -> None:
    self._ids.add(row.get("id"))
    if file in (FeedbackFile.LIKED, FeedbackFile.DISLIKED):
      answer = GivenAnswer(row["completion"], row["model"], row["version"], row["sampling"])
      self._thumbs[row["client"], _key(row["prompt"]), row["label"]] = answer


def _key(prompt: str | Messages) -> str:
  return json.dumps(prompt, sort_keys=True)
