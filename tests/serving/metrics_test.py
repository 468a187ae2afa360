import pytest

pytest.importorskip("prometheus_client", reason="needs pip install 'posttrain_jax[serve]'")

import types

from posttrain_jax.serving.metrics import ServingMetrics


def test_counts_times_and_what_runs_now():
  metrics = ServingMetrics({"tiny": types.SimpleNamespace(choices=(3, 5))})
  metrics.requests.labels("/v1/completions", 429).inc()
  metrics.completion_tokens.labels("tiny").inc(7)
  metrics.token.labels("tiny").observe(0.004)
  text = metrics.text().decode()
  for line in (
    'posttrain_jax_requests_total{path="/v1/completions",status="429"} 1.0',
    'posttrain_jax_completion_tokens_total{model="tiny"} 7.0',
    'posttrain_jax_token_seconds_bucket{le="0.005",model="tiny"} 1.0',
    'posttrain_jax_choices_running{model="tiny"} 3.0',
    'posttrain_jax_choices_waiting{model="tiny"} 5.0',
  ):
    assert line in text.split("\n"), line


def test_two_servers_of_a_process_count_apart():
  one, two = (ServingMetrics({}) for _ in range(2))
  one.cancelled.labels("tiny").inc()
  assert b"cancelled_total{" in one.text() and b"cancelled_total{" not in two.text()
