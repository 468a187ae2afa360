import json

import numpy as np
import pytest

from posttrain_jax.reports import run_curves
from posttrain_jax.types import InputError


def write(path, records):
  path.mkdir()
  (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
  return path


@pytest.fixture
def runs(tmp_path):
  rise = [{"step": i, "updates": 2 * i, "loss": 1.0 - i, "accuracy": 0.5} for i in range(4)]
  rise[1] |= {"accuracy_low": 0.4, "accuracy_high": 0.6}
  fall = [{"step": i, "updates": 2 * i, "loss": 2.0 + i} for i in range(3)]
  return {"rise": write(tmp_path / "a", rise), "fall": write(tmp_path / "b", fall)}


@pytest.fixture
def drawn(monkeypatch):
  """Collects the figures that are written."""
  found = []
  draw = run_curves._draw
  monkeypatch.setattr(run_curves, "_draw", lambda *args: found.append(draw(*args)) or found[-1])
  return found


def test_a_panel_a_metric_and_a_line_a_run(runs, drawn, tmp_path):
  notices = run_curves.write_curves(runs, ["loss", "accuracy"], tmp_path / "c.png")
  assert notices == ["fall has no accuracy"]
  assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
  loss, accuracy = drawn[0].axes
  assert [axes.get_title(loc="left") for axes in drawn[0].axes] == ["Loss", "accuracy"]
  assert [axes.get_ylabel() for axes in drawn[0].axes] == ["loss per token", ""]
  lines = loss.get_lines()[:2]
  np.testing.assert_array_equal(lines[0].get_xydata(), [[0, 1], [2, 0], [4, -1], [6, -2]])
  np.testing.assert_array_equal(lines[1].get_xydata(), [[0, 2], [2, 3], [4, 4]])
  assert len(accuracy.get_lines()) == 1 and len(accuracy.collections) == 1 and not loss.collections
  band = accuracy.collections[0].get_paths()[0].get_extents()
  assert (band.x0, band.y0, band.x1, band.y1) == (2, 0.4, 2, 0.6)
  (legend,) = drawn[0].legends
  assert [text.get_text() for text in legend.get_texts()] == ["rise", "fall"]


def test_zero_is_marked_where_values_are_on_both_sides(runs, drawn, tmp_path):
  run_curves.write_curves(runs, ["loss"], tmp_path / "c.png")
  assert list(drawn[0].axes[0].get_lines()[-1].get_ydata()) == [0, 0]
  run_curves.write_curves({"fall": runs["fall"]}, ["loss"], tmp_path / "c.png")
  assert len(drawn[1].axes[0].get_lines()) == 1


def test_steps_on_the_x_axis(runs, drawn, tmp_path):
  run_curves.write_curves(runs, ["loss"], tmp_path / "c.svg", x="step")
  assert list(drawn[0].axes[0].get_lines()[1].get_xdata()) == [0, 1, 2]
  assert drawn[0].axes[0].get_xlabel() == "step"


def test_the_root_of_another_metric_on_the_x_axis(drawn, tmp_path):
  # A KL is estimated, so that it may be a little below 0 at the start.
  records = [{"step": i, "updates": i, "kl": kl, "gold": i} for i, kl in enumerate((-1e-3, 4.0, 9.0))]
  run_curves.write_curves({"a": write(tmp_path / "a", records)}, ["gold"], tmp_path / "c.png", x="kl", sqrt_x=True)
  (axes,) = drawn[0].axes
  np.testing.assert_array_equal(axes.get_lines()[0].get_xydata(), [[0, 0], [2, 1], [3, 2]])
  assert axes.get_xlabel() == "√ kl"


def test_a_cut_line_is_said(runs, tmp_path):
  with open(runs["fall"] / "metrics.jsonl", "a") as file:
    file.write('{"step": 3, "lo')
  notices = run_curves.write_curves(runs, ["loss"], tmp_path / "c.pdf")
  assert notices == ["fall: metrics.jsonl, line 4 is cut short, as by a kill: it is left out."]


@pytest.mark.parametrize(
  "metrics, output, x, message",
  [
    (["los"], "c.png", "step", "los: no run has this metric, expected one like loss$"),
    (["acuracy"], "c.png", "step", "acuracy: no run has this metric, expected one like accuracy"),
    (["zzz"], "c.png", "step", "zzz: no run has this metric, expected one of 6, such as accuracy"),
    (["loss"], "c.png", "update", "update: rise has no such metric for the x axis, expected one like updates"),
    (["loss"], "c.gif", "step", "c.gif: expected a name that ends in .png, .svg, .pdf"),
    (["loss"], "none/c.png", "step", "there is no directory"),
    ([], "c.png", "step", "found 2 runs and 0 metrics"),
  ],
)
def test_bad_input_is_one_line(runs, tmp_path, metrics, output, x, message):
  with pytest.raises(InputError, match=message) as caught:
    run_curves.write_curves(runs, metrics, tmp_path / output, x=x)
  assert "\n" not in str(caught.value)


def test_runs_must_be_there(runs, tmp_path):
  with pytest.raises(InputError, match=r"c: there is no directory .*absent, expected the workdir of a run"):
    run_curves.write_curves(runs | {"c": tmp_path / "absent"}, ["loss"], tmp_path / "c.png")
  (tmp_path / "empty").mkdir()
  with pytest.raises(InputError, match=r"c: .*metrics.jsonl has no complete step"):
    run_curves.write_curves(runs | {"c": tmp_path / "empty"}, ["loss"], tmp_path / "c.png")
