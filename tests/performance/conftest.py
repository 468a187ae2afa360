"""Measures rates for moments only.

Tests ask whether numbers agree with each other, not how fast the machine is.
"""

import pytest

from posttrain_jax.performance import roofline


@pytest.fixture(autouse=True)
def rates_measured_quickly(monkeypatch):
  monkeypatch.setattr(roofline, "_TRIES", 1)
  monkeypatch.setattr(roofline, "_LEAST_SECONDS", 0.0)
  monkeypatch.setattr(roofline, "_LARGE", (64, 64, 64))
  monkeypatch.setattr(roofline, "_READ_BYTES", 2**22)
