import matplotlib
import pytest
from matplotlib import image

from posttrain_jax.reports.picture import INK, picture


def test_a_png_of_160_dots_an_inch_in_the_common_style(tmp_path):
  before = dict(matplotlib.rcParams)
  with picture(tmp_path / "p.png", width=2.0, height=1.0) as figure:
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1])
    label = axes.set_xlabel("x")
  assert image.imread(tmp_path / "p.png").shape[:2] == (160, 320)
  assert label.get_color() == INK and not axes.spines["top"].get_visible()
  assert dict(matplotlib.rcParams) == before


def test_an_error_while_drawing_writes_nothing(tmp_path):
  before = dict(matplotlib.rcParams)
  with pytest.raises(ZeroDivisionError), picture(tmp_path / "p.png", width=2.0, height=1.0):
    1 / 0  # noqa: B018
  assert not (tmp_path / "p.png").exists() and dict(matplotlib.rcParams) == before
