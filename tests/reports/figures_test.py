import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from posttrain_jax.reports import figures
from posttrain_jax.reports.panel import Kind, Panel, PanelCurve, panel

STEPS = np.arange(50.0)
COLUMNS = {"step": STEPS, "a": STEPS / 10, "b": 5 - STEPS / 10, "a_low": STEPS / 10 - 1, "a_high": STEPS / 10 + 1}


def texts(svg):
  return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


@pytest.mark.parametrize(("points", "window"), [(1, 1), (29, 1), (39, 1), (40, 3), (80, 5), (600, 31)])
def test_smoothing_window(points, window):
  assert figures.smoothing_window(points) == window


@pytest.mark.parametrize("kind", Kind)
def test_one_element_with_the_colours_of_the_page(kind):
  svg = figures.draw(panel("A < B", "unit", {"a": "a", "b": "b"}, colors=(2, 9), kind=kind), COLUMNS)
  root = ElementTree.fromstring(re.sub(r"xlink:href", "href", svg))
  assert root.tag.endswith("svg") and root.get("aria-label") == "A < B" and root.get("viewBox")
  assert set(re.findall(r"var\(--(\w+)\)", svg)) == {"ink", "rule", "c2", "c1"}  # 9 is 1, of 8 colours
  assert "#0a0" not in svg and "<style" not in svg and "unit" in texts(svg) and "step" in texts(svg)


def test_the_same_panel_is_the_same_text():
  shown = Panel("A", "unit", (PanelCurve("a", "a", 0, ("a_low", "a_high")),))
  assert figures.draw(shown, COLUMNS) == figures.draw(shown, COLUMNS)


def test_a_band_is_drawn_for_an_interval():
  with_band, without = (
    figures.draw(Panel("A", "", (PanelCurve("a", "a", 0, band),)), COLUMNS) for band in (("a_low", "a_high"), None)
  )
  assert "opacity: 0.2" in with_band and "opacity: 0.2" not in without


def test_faint_points_under_a_running_mean_only_where_there_are_many():
  smooth, rough = (figures.draw(panel("A", "", {"a": "a"}, smooth=each), COLUMNS) for each in (True, False))
  assert "opacity: 0.3" in smooth and "opacity: 0.3" not in rough


def test_a_stack_of_one_step_has_an_area():
  svg = figures.draw(panel("A", "", {"a": "a"}, kind=Kind.STACKED), {"step": np.array([3.0]), "a": np.array([2.0])})
  assert "var(--c0)" in svg and "3.0" in texts(svg)


def test_a_count_that_stays_at_zero_is_drawn_from_zero_to_one():
  labels = texts(figures.draw(panel("A", "", {"a": "a"}), {"step": STEPS, "a": np.zeros(50)}))
  assert {"0.0", "1.0"} <= set(labels)


def test_a_share_is_drawn_from_zero_to_one():
  labels = texts(figures.draw(panel("A", "", {"a": "a"}, share=True), {"step": STEPS, "a": np.full(50, 0.5)}))
  assert {"0.0", "1.0"} <= set(labels)


def test_tick_labels_keep_their_digits():
  columns = {"step": np.arange(21.0), "entropy": 0.02 + 0.0005 * np.arange(21)}  # 0.0200 to 0.0300
  labels = texts(figures.draw(panel("Entropy", "nats per token", {"entropy": "policy"}), columns))
  assert {"0.020", "0.022", "0.024", "0.026", "0.028", "0.030"} <= set(labels)


def limits(values, noise=0.0):
  axes = Figure().subplots()
  axes.plot(values)
  figures.keep_flat(axes, noise=noise)
  return axes.get_ylim()


def test_a_curve_that_hardly_moves_looks_flat():
  low, high = limits([0.693, 0.6931, 0.6932])
  assert high - low == pytest.approx(0.0693, rel=1e-3) and (low + high) / 2 == pytest.approx(0.6931, rel=1e-3)
  low, high = limits([-1.0, 1.0])
  assert (low, high) == pytest.approx((-1.1, 1.1))  # matplotlib's own margins
  low, high = limits([0.0, -3e-7, 2e-6], noise=1e-6)
  assert high - low == pytest.approx(1e-5)
  low, high = limits([1e-6, 2e-6])  # a learning rate is small and no noise
  assert high - low < 2e-6


def test_what_differs_from_zero_by_rounding_only_is_drawn_as_zero():
  shown = panel("KL", "nats", {"a": "a"}, noise=1e-6)
  labels = texts(figures.draw(shown, {"step": STEPS, "a": np.full(50, -7.88e-8)}))
  assert {"0.0", "1.0"} <= set(labels)
