"""Makes small studies for tests."""

import json

from posttrain_jax.labelling import study
from posttrain_jax.labelling.items import RatingKind
from posttrain_jax.labelling.study import StudySettings

PAIRS = [
  {"prompt": f"q{i}", "chosen": f"good {i}", "rejected": f"bad {i}", "chosen_from": "big", "rejected_from": "small"}
  for i in range(6)
]
RANKED = [{"prompt": f"q{i}", "answers": [f"good {i}", f"fair {i}", f"bad {i}"]} for i in range(4)]
PROMPTS = [{"prompt": f"q{i}", "difficulty": i} for i in range(4)]
WRITTEN = [{"prompt": f"q{i}", "completion": f"said {i}"} for i in range(4)]
ROWS = {
  RatingKind.PAIRS: PAIRS,
  RatingKind.RANKING: RANKED,
  RatingKind.DEMONSTRATIONS: PROMPTS,
  RatingKind.ACCEPT: WRITTEN,
}


def write_rows(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
  return str(path)


def settings(kind=RatingKind.PAIRS, **changes):
  usual = dict(raters=("ann",), overlap=1, check_every=0, ties=True, edits=True, most_characters=1000, seed=0)
  return StudySettings(kind=kind, **(usual | changes))


def make_study(folder, kind=RatingKind.PAIRS, rows=None, *, checks=None, instructions=None, **changes):
  """Makes a study in folder/study from rows, which are written to files beside it."""
  path = write_rows(folder / "rows.jsonl", ROWS[kind] if rows is None else rows)
  if checks is not None:
    checks = write_rows(folder / "checks.jsonl", checks)
  if instructions is not None:
    (folder / "instructions.md").write_text(instructions, "utf-8")
    instructions = str(folder / "instructions.md")
  found, _ = study.start(
    str(folder / "study"), settings(kind, **changes), path=path, checks=checks, instructions=instructions
  )
  return found


def place_of(view, beginning):
  """Returns where the answer that begins so stands on a rater's page."""
  return next(i for i, text in enumerate(view["answers"]) if text.startswith(beginning))


def prefer(view, beginning, strength="better", edited=None):
  """Returns a label of a pair: the answer that begins so is better."""
  return {"better": place_of(view, beginning), "strength": strength, "edited": edited}
