"""Counts and times what a server does, for Prometheus."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from posttrain_jax.serving.running_model import RunningModel

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)


class ServingMetrics:
  """Holds a server's metrics.

  Attributes:
    requests: answered, by path and status.
    prompt_tokens: of requests that were taken.
    completion_tokens: that were drawn and delivered.
    cancelled: requests whose client left.
    first_token: seconds from a request to its first token.
    token: seconds for each further token of a request's choices.
    request: seconds of a whole answer.
  """

  def __init__(self, models: Mapping[str, RunningModel]):
    """Starts all counts at 0.

    Args:
      models: the served models by name; how many of their choices run and wait is read when it is asked for.
    """
    self._registry = registry = CollectorRegistry()
    make = lambda kind, name, text, labels=("model",), **more: kind(  # noqa: E731
      f"posttrain_jax_{name}", text, labels, registry=registry, **more
    )
    self.requests = make(Counter, "requests", "requests answered", ("path", "status"))
    self.prompt_tokens = make(Counter, "prompt_tokens", "tokens of prompts")
    self.completion_tokens = make(Counter, "completion_tokens", "tokens drawn")
    self.cancelled = make(Counter, "cancelled", "requests whose client left")
    self.first_token = make(Histogram, "first_token_seconds", "from request to first token", buckets=_SECONDS)
    self.token = make(Histogram, "token_seconds", "between tokens of a choice", buckets=_TOKEN_SECONDS)
    self.request = make(Histogram, "request_seconds", "of a whole answer", buckets=_SECONDS)
    running = make(Gauge, "choices_running", "choices that have a slot")
    waiting = make(Gauge, "choices_waiting", "choices that wait for a slot")
    for name, model in models.items():
      running.labels(name).set_function(lambda model=model: model.choices[0])
      waiting.labels(name).set_function(lambda model=model: model.choices[1])

  def text(self) -> bytes:
    """Writes all metrics in Prometheus' text format."""
    return generate_latest(self._registry)
