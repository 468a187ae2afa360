import pytest

from posttrain_jax.studies.pretraining_widths_figure import WidthCurve, plot_widths
from posttrain_jax.types import InputError


def test_a_picture(tmp_path):
  curves = [WidthCurve(w, w * 1000, (10, 20), (3.0, 2.0 + 1 / w), 1.0) for w in (32, 16)]
  plot_widths(tmp_path / "a.png", curves)
  assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("curves", [[], [WidthCurve(16, 1000, (), (), 1.0)]])
def test_no_measurements_are_refused(tmp_path, curves):
  with pytest.raises(InputError, match="expected curves with measurements"):
    plot_widths(tmp_path / "a.png", curves)
