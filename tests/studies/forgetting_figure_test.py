import matplotlib
import numpy as np
import pytest
from matplotlib import image

from posttrain_jax.reports import picture
from posttrain_jax.studies.forgetting_figure import ForgettingCurve, plot_forgetting
from posttrain_jax.types import InputError


def curve(learning_rate, *, epochs=(0, 1, 4), perplexity=(2.0, 3.0, 40.0)):
  shares = np.array([[0.2, 0.1, 0.3], [0.5, 0.4, 0.6], [0.8, 0.7, 0.9]])[: len(epochs)]
  return ForgettingCurve(learning_rate, np.array(epochs), shares, np.array(perplexity[: len(epochs)]), 1 - shares)


def axes_of(tmp_path, monkeypatch, curves):
  """Returns the panels that were drawn."""
  figures = []
  canvas = picture.FigureCanvasAgg
  monkeypatch.setattr(picture, "FigureCanvasAgg", lambda figure: figures.append(figure) or canvas(figure))
  plot_forgetting(tmp_path / "f.png", curves)
  return figures[0].axes


def test_a_line_a_learning_rate_over_what_was_before(tmp_path, monkeypatch):
  panels = axes_of(tmp_path, monkeypatch, [curve(1e-2), curve(1e-4, epochs=(0, 1))])
  accuracy, perplexity, distinct = panels
  dashed, slow, fast = accuracy.lines
  assert list(dashed.get_ydata()) == [0.2, 0.2]
  assert [line.get_label() for line in (slow, fast)] == ["learning rate 0.0001", "learning rate 0.01"]
  assert list(slow.get_xdata()) == [0, 1] and list(fast.get_ydata()) == [0.2, 0.5, 0.8]
  assert len(accuracy.collections) == len(distinct.collections) == 2 and not perplexity.collections
  assert [axes.get_yscale() for axes in panels] == ["linear", "log", "linear"]
  assert list(accuracy.get_xticks()) == [0, 1, 4]


def test_the_picture_is_a_png_and_leaves_matplotlib_as_it_was(tmp_path):
  before = dict(matplotlib.rcParams)
  plot_forgetting(tmp_path / "f.png", [curve(1e-3)])
  assert image.imread(tmp_path / "f.png").shape[2] == 4
  assert dict(matplotlib.rcParams) == before


def test_a_perplexity_that_was_not_measured_is_left_out(tmp_path):
  plot_forgetting(tmp_path / "f.png", [curve(1e-3, perplexity=(2.0, np.nan, np.inf))])


@pytest.mark.parametrize("curves", [[], [curve(1e-3, epochs=(1, 2))], [curve(1e-3, epochs=())]])
def test_without_a_beginning_there_is_nothing_to_compare(tmp_path, curves):
  with pytest.raises(InputError, match="expected curves from epoch 0 on"):
    plot_forgetting(tmp_path / "f.png", curves)
