"""Words the line with which a run starts: devices, parameters, data."""

import collections
import math
from collections.abc import Mapping
from typing import Any

import jax

# Words for these `data/*` counts. Any other count is of rows that were left out or changed, and its name is the reason.
DATA_WORDS = {
  "data/pairs": "pairs",
  "data/desirable": "good",
  "data/undesirable": "bad",
  "data/held_out": "held out",
  "data/rows": "rows",
  "data/tokens": "tokens",
  "data/learned": "learned tokens",
}
_CHANGED = "cut"  # in the name of a count of rows that are cut and not left out


def start_line(title: str, steps: int, state: Any, data: str) -> str:
  """Returns the line.

  Args:
    title: name of the work.
    steps: of the run.
    state: what a checkpoint holds: a pytree of arrays or ShapeDtypeStructs, with the parameters under `params`.
    data: words about the data; empty for none.
  """
  params = state.get("params", state) if isinstance(state, Mapping) else getattr(state, "params", state)
  count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
  parts = [f"{steps} steps", devices(), f"{short_count(count)} parameters", *([data] if data else [])]
  return f"{title}: {'; '.join(parts)}; compiling during the first step"


def devices() -> str:
  """Names the devices of all processes, such as "8 × TPU v4"."""
  kinds = collections.Counter(device.device_kind for device in jax.devices())
  return ", ".join(f"{count} × {kind.upper() if kind == 'cpu' else kind}" for kind, count in kinds.items())


def short_count(count: int) -> str:
  """Shortens a count for reading: 950, 21.5 k, 135 M, 7.62 B."""
  for size, unit in ((10**9, " B"), (10**6, " M"), (10**3, " k")):
    if count >= size:
      return f"{count / size:.3g}{unit}" if count < 999.5 * size else f"{count / size:.0f}{unit}"
  return str(count)


def describe_data(facts: Mapping[str, float]) -> str:
  """Words the counts of the data under `data/`; empty if there are none.

  What the first words count is the noun of the data: examples or comparisons. Counts of 0 are left out.
  """
  left = dict(facts)
  noun = next((noun for noun in ("examples", "comparisons") if f"data/{noun}" in left), None)
  if noun is None:
    return ""
  total = left.pop(f"data/{noun}")
  return ", ".join([f"{_whole(total)} {noun}", *describe_counts(left)])


def describe_counts(facts: Mapping[str, float]) -> list[str]:
  """Words each count besides the noun's, in reading order."""
  left = dict(facts)
  parts = [f"{_whole(left.pop(key))} {words}" for key, words in DATA_WORDS.items() if key in left]
  if "data/packing_efficiency" in left:
    parts.append(f"rows {100 * left.pop('data/packing_efficiency'):.1f} % full")
  for key, count in left.items():
    if count:
      words = key.removeprefix("data/").split("_")
      verb = "cut" if _CHANGED in words else "left out"
      reason = " ".join(word for word in words if word not in (_CHANGED, "dropped"))
      parts.append(f"{_whole(count)} {verb}: {reason}")
  return parts


def _whole(count: float) -> str:
  return f"{int(count):,}".replace(",", "\u202f")
