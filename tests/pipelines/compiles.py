"""Counts the programs that a run compiles."""

import jax
import pytest

from posttrain_jax.runs.journal import Journal

_compiles = []
jax.monitoring.register_event_duration_secs_listener(
  lambda event, duration, **_: (
    _compiles.append(event) if event == "/jax/core/compile/backend_compile_duration" else None
  )
)


def compiles_by_step(patch: pytest.MonkeyPatch) -> dict[int, int]:
  """Counts, by step, the programs compiled since the step before; the result fills up during the run."""
  counts, write = {}, Journal.write

  def counting(self, step, metrics):
    counts[step] = len(_compiles)
    _compiles.clear()
    write(self, step, metrics)

  _compiles.clear()
  patch.setattr(Journal, "write", counting)
  return counts
