import numpy as np
import pytest
from matplotlib import image

from posttrain_jax.reports import picture
from posttrain_jax.studies import ablation_figures
from posttrain_jax.studies.ablation_figures import AblationPanel
from posttrain_jax.studies.ablation_runs import read_run
from tests.evaluation.made_runs import write_run

TOKENS = 12_000


@pytest.fixture
def rows(tmp_path):
  return {
    row: [read_run(write_run(tmp_path / f"{seed}" / row, end=end, seed=seed), row, seed) for seed in range(2)]
    for row, end in (("naive", 0.6), ("clip_higher", 0.7))
  }


@pytest.fixture
def drawn(monkeypatch):
  """Collects the figures that are written."""
  found = []
  canvas = picture.FigureCanvasAgg
  monkeypatch.setattr(picture, "FigureCanvasAgg", lambda figure: found.append(figure) or canvas(figure))
  return found


def test_a_line_a_row_with_the_mean_over_seeds(tmp_path, rows, drawn):
  shown = ablation_figures.panels("heldout", "avg@8")["accuracy"]
  assert ablation_figures.draw(tmp_path / "a.png", shown, rows, tokens=TOKENS, resamples=50)
  assert image.imread(tmp_path / "a.png").shape[:2] == (640, 896)  # 4.0 x 5.6 inches
  (axes,) = drawn[0].axes
  naive, higher = axes.get_lines()
  assert [line.get_label() for line in (naive, higher)] == ["naive", "clip_higher"]
  # Evaluated at every second of 12 steps of 1000 tokens, and before the first.
  np.testing.assert_allclose(naive.get_xdata(), np.arange(0, 12_001, 2000))
  scores = np.stack([run.scores["heldout"]["avg@8"] for run in rows["naive"]])
  np.testing.assert_allclose(naive.get_ydata(), scores.mean(axis=(0, 2)))
  assert axes.get_xlim() == (0, TOKENS) and len(axes.collections) == 2


def test_a_metric_of_every_step_is_drawn_over_bins(tmp_path, rows, drawn):
  shown = [AblationPanel("entropy", "Entropy", "nats"), AblationPanel("nowhere", "Absent", "nats")]
  assert ablation_figures.draw(tmp_path / "a.png", shown, rows, tokens=TOKENS, resamples=50)
  entropy, absent = drawn[0].axes
  x, y = entropy.get_lines()[0].get_data()
  assert len(x) == 20 and (x[0], x[-1]) == (300, 11_700)  # the middles of 20 bins of 600 tokens
  assert y[-1] == pytest.approx(0.4) and not absent.get_lines()


def test_without_any_metric_nothing_is_written(tmp_path, rows):
  shown = [AblationPanel("nowhere", "Absent", "nats")]
  assert not ablation_figures.draw(tmp_path / "a.png", shown, rows, tokens=TOKENS, resamples=50)
  assert not (tmp_path / "a.png").exists()


def test_rows_that_do_not_sample_have_no_line(tmp_path):
  run = read_run(write_run(tmp_path / "sft", end=0.5, seed=0, tokens=None), "continued_sft", 0)
  panels = ablation_figures.panels("heldout", "avg@8")["accuracy"]
  assert not ablation_figures.draw(tmp_path / "a.png", panels, {"continued_sft": [run]}, tokens=10, resamples=5)
  assert not (tmp_path / "a.png").exists()


def test_steps_are_averaged_over_bins_of_tokens():
  # 20 bins of 10 tokens: steps at 5 and 8 share the first, the one at 25 is in the third, the second lies between.
  found = ablation_figures._binned(np.array([5, 8, 25]), np.array([1.0, 3.0, 4.0]), 200)
  np.testing.assert_allclose(found[:3], [2, 3, 4])
  assert np.isnan(found[3:]).all()
