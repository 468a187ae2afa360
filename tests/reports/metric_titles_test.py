import pytest

from posttrain_jax.reports import metric_titles, run_metrics
from tests.reports.made_records import dpo_run, sft_run


@pytest.mark.parametrize(
  "metric, title, unit",
  [
    ("eval/heldout/avg@8", "heldout: accuracy", "share correct"),
    ("eval/heldout/kl_to_reference", "heldout: KL to the reference", "nats per answer"),
    ("kl/reference", "KL to the reference", "nats per token"),
    ("loss", "Loss", "loss per pair"),
    ("some/thing_else", "some: thing else", ""),
  ],
)
def test_a_metric_has_the_title_of_its_panel(metric, title, unit):
  columns = run_metrics.columns([record | {"some/thing_else": 1.0, "kl/reference": 0.5} for record in dpo_run()])
  assert metric_titles.title_and_unit(metric, columns) == (title, unit)


def test_a_curve_among_others_has_its_label_in_the_title():
  columns = run_metrics.columns(sft_run())
  assert metric_titles.title_and_unit("eval/validation/loss", columns) == (
    "Loss: held-out demonstrations",
    "nats per token",
  )


def test_axes():
  columns = run_metrics.columns(dpo_run())
  assert metric_titles.axis_label("updates", columns) == "optimiser updates"
  assert metric_titles.axis_label("eval/heldout/kl_to_reference", columns) == (
    "heldout: KL to the reference, nats per answer"
  )
