import pytest

pytest.importorskip("starlette", reason="needs pip install 'posttrain_jax[serve]'")
pytest.importorskip("uvicorn", reason="needs pip install 'posttrain_jax[serve]'")
pytest.importorskip("httptools", reason="needs pip install 'posttrain_jax[serve]'")

from posttrain_jax.performance.serving import ServingWork, _wrong, measure_serving, percentiles
from posttrain_jax.performance.serving_client import LoadAnswer
from tests.serving.served import save_byte_model


def test_a_server_is_measured_and_every_answer_is_the_engines(tmp_path):
  work = ServingWork(
    model=str(save_byte_model(tmp_path / "tiny")),
    clients=8,
    seconds=1.0,
    rounds=2,
    batch=10,
    slots=4,
    steps_per_dispatch=4,
    max_prompt_length=20,
    max_new_tokens=20,
    mean_length=8,
    seed=0,
  )
  found = measure_serving(work)
  assert found["wrong_answers"] == 0 and found["answers"] == found["answers_under_load"] + 20
  assert found["answers_under_load"] >= 8 and found["tokens"] >= found["answers_under_load"]
  assert len(found["throughput_ratios"]) == 2 and min(found["throughput_ratios"] + found["cpu_ratios"]) > 0
  assert set(found["first_token_seconds"]) == {"p50", "p90", "p99"}


def test_answers_that_are_missing_doubled_or_mixed_up_are_wrong():
  answer = lambda text: LoadAnswer(text, 2, "stop", 1.0, None, None)  # noqa: E731
  expected = {seed: (str(seed), 2, "stop") for seed in range(4)}
  assert _wrong(expected, {seed: answer(str(seed)) for seed in range(4)}) == 0
  assert _wrong(expected, {0: answer("0"), 1: answer("2"), 2: answer("1"), 4: answer("4")}) == 4


def test_percentiles_leave_out_what_is_not_known():
  assert percentiles([None, 1.0, 2.0, 3.0]) == {"p50": 2.0, "p90": 2.8, "p99": 2.98}
  assert percentiles([None]) == {}
