"""Tests that PPO's panels are there for a run that has values, and for no other."""

import numpy as np

from posttrain_jax.reports import training_panels


def headings(*names):
  columns = {name: np.zeros(3) for name in ("step", *names)}
  return {heading: [panel.title for panel in panels] for heading, panels in training_panels.sections(columns)}


def test_values_and_kl():
  found = headings("value/unscaled_loss", "value/explained_variance", "kl/coefficient", "kl/answer", "entropy")
  assert found["Values and KL"] == [
    "Value loss",
    "Explained variance of the returns",
    "KL to the reference per answer",
    "KL coefficient",
  ]
  assert "Values and KL" not in headings("entropy", "kl/reference", "clip/low")
