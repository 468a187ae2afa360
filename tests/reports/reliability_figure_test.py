import matplotlib
import numpy as np
from matplotlib import image

from posttrain_jax.evaluation.calibration import pair_confidence
from posttrain_jax.reports.reliability_figure import plot_reliabilities, plot_reliability


def test_the_picture_is_a_png_and_leaves_matplotlib_as_it_was(tmp_path):
  before = dict(matplotlib.rcParams)
  path = tmp_path / "reliability.png"
  margins = np.random.default_rng(0).normal(0.5, 1, 300)
  plot_reliability(path, *pair_confidence(margins), bins=20, title="Held-out pairs")
  height, width, _ = image.imread(path).shape
  assert height > width > 600
  assert dict(matplotlib.rcParams) == before
  plot_reliability(path, [0.1, 1.0], [0, 1])  # bins that are certain, and empty ones


def test_diagrams_stand_beside_each_other_and_one_may_have_no_claims(tmp_path):
  path = tmp_path / "reliability.png"
  plot_reliabilities(path, {"stated": (np.array([]), np.array([], bool)), "probability": ([0.1, 1.0], [0, 1])})
  height, width, _ = image.imread(path).shape
  assert width > 1.5 * height
