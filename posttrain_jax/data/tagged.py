"""Demonstrations of chain arithmetic in R1-Zero's template (2501.12948): work in one pair of tags, answer in another.

"+8=5-2=3 Answer: 3" becomes "<think>+8=5-2=3</think><answer>3</answer>". Only a share of them does: whoever learns from
such text knows the template and follows it now and then.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.data import arithmetic
from posttrain_jax.types import InputError

# What the template adds to `demonstrations.SYMBOLS`, one token a tag.
TAGS = ("<think>", "</think>", "<answer>", "</answer>")

_MARKER = " Answer: "


def tag_some(rows: Sequence[Mapping[str, Any]], *, share: float, seed: int = 0) -> list[dict[str, Any]]:
  """Puts the completions of some rows into the template, each with the same probability, and leaves the others.

  Args:
    rows: `demonstrations.demonstrations`.
    share: the probability.
    seed: of the draws.

  Returns:
    The rows in their order. Who skimmed has no work and shows the one step that was done: "<think>-2=3</think>".

  Raises:
    InputError: the share is none.
  """
  if not 0 <= share <= 1:
    raise InputError(f"demonstrations.tagged: {share}, expected a share from 0 to 1")
  rng = random.Random(f"tagged/{seed}")
  return [{**row, "completion": _tagged(row)} if rng.random() < share else dict(row) for row in rows]


def _tagged(row: Mapping[str, Any]) -> str:
  work, _, answer = row["completion"].rpartition(_MARKER)
  work = work or f"{arithmetic.terms(row['prompt'])[1][-1]}={answer}"
  return f"<think>{work}</think><answer>{answer}</answer>"
