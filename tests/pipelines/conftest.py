"""Leaves out what takes a third of a small run's time and is tested elsewhere."""

import pytest

from posttrain_jax.reports import figures


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
  """Writes reports without their pictures, which tests/reports has.

  Runs that fixtures of a whole module make, one for each method, have them.
  """
  monkeypatch.setattr(figures, "draw", lambda panel, columns: "<svg></svg>")
