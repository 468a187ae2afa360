"""Rewrites demonstrations of chain arithmetic in R1-Zero's template.

The template (2501.12948) has the work in one pair of tags and the answer in another. "+8=5-2=3 Answer: 3" becomes
"<think>+8=5-2=3</think><answer>3</answer>". Only a share of the demonstrations is rewritten. So a model trained on them
knows the template, but follows it only now and then.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.data import arithmetic
from posttrain_jax.types import InputError

# Symbols that the template adds to `demonstrations.SYMBOLS`, one token per tag.
TAGS = ("<think>", "</think>", "<answer>", "</answer>")

_MARKER = " Answer: "


def tag_some(rows: Sequence[Mapping[str, Any]], *, share: float, seed: int = 0) -> list[dict[str, Any]]:
  """Puts the completions of randomly drawn rows into the template.

  Args:
    rows: rows made by `demonstrations.demonstrations`.
    share: probability that a row is rewritten, the same for all rows.
    seed: seed of the draws.

  Returns:
    All rows in their order. A hasty demonstration has no work, so the tags show the one step that it made:
    "<think>-2=3</think>".

  Raises:
    InputError: if `share` is not between 0 and 1.
  """
  if not 0 <= share <= 1:
    raise InputError(f"demonstrations.tagged: {share}, expected a share from 0 to 1")
  rng = random.Random(f"tagged/{seed}")
  return [{**row, "completion": _tagged(row)} if rng.random() < share else dict(row) for row in rows]


def _tagged(row: Mapping[str, Any]) -> str:
  work, _, answer = row["completion"].rpartition(_MARKER)
  work = work or f"{arithmetic.terms(row['prompt'])[1][-1]}={answer}"
  return f"<think>{work}</think><answer>{answer}</answer>"
