import json

from posttrain_jax.models import flops
from posttrain_jax.models.sizes import sizes
from posttrain_jax.recipes.effort import Effort, counted, drawing, from_json

ESTIMATE = Effort(examples=10, generated=100, trained=50, sampling_flops=1e3, training_flops=2e3, rows={"x": 3})


def metrics(folder, *records):
  lines = [json.dumps({"step": step, **record}) + "\n" for step, record in enumerate(records)]
  (folder / "metrics.jsonl").write_text("".join(lines))


def test_flops_are_in_proportion_to_tokens():
  found = ESTIMATE.with_tokens(generated=200, trained=None)
  assert (found.generated, found.trained, found.sampling_flops, found.training_flops) == (200, 50, 2e3, 2e3)
  assert found.flops == 4e3
  assert Effort(training_flops=5.0).with_tokens(generated=None, trained=7).training_flops == 5.0  # nothing to scale by


def test_tokens_of_rollouts_are_counted(tmp_path):
  metrics(tmp_path, {}, *[{"sampling/tokens_generated": 30, "sampling/tokens_trained": 20}] * 2)
  found = counted(tmp_path, ESTIMATE, {})
  assert (found.examples, found.generated, found.trained, found.sampling_flops) == (10, 60, 40, 600.0)


def test_the_text_of_ppo_ptx_is_counted(tmp_path):
  trained = {"sampling/tokens_trained": 20}
  # The value model is trained alone in the first step, then there are four updates of the policy a step.
  metrics(
    tmp_path,
    {"updates": 0},
    {"updates": 0, **trained},
    *[{"updates": updates, **trained, "ptx/tokens": 7.5} for updates in (4, 8)],
  )
  assert counted(tmp_path, ESTIMATE, {}).trained == 3 * 20 + 2 * 4 * 7.5


def test_tokens_of_given_data_are_counted(tmp_path):
  metrics(tmp_path, {"data/examples": 8, "tokens": 30.0}, {"tokens": 45.0})
  assert (counted(tmp_path, ESTIMATE, {}).examples, counted(tmp_path, ESTIMATE, {}).trained) == (8, 75)
  metrics(tmp_path, {"data/comparisons": 6})
  assert counted(tmp_path, ESTIMATE, {}).examples == 6 and counted(tmp_path, ESTIMATE, {}).trained == 50


def test_where_nothing_is_counted_the_estimate_stands(tmp_path):
  assert counted(tmp_path, ESTIMATE, {"rows": 3}) == ESTIMATE
  assert counted(tmp_path, ESTIMATE, {"tokens_generated": 30}).generated == 30
  assert counted(tmp_path, ESTIMATE, {"examples": 7}).examples == 7


def test_drawing_is_one_pass_over_what_is_drawn():
  model = sizes("smol_4layer")
  found = drawing(model, examples=3, tokens=10, rows={"x": 3})
  assert (found.examples, found.generated, found.trained, dict(found.rows)) == (3, 10, 0, {"x": 3})
  assert found.sampling_flops == flops.forward(model, tokens=10, pairs=0, logits=10) > 0
  assert drawing(model, examples=3, tokens=10).rows == {}


def test_json_comes_back():
  assert from_json(json.loads(json.dumps(ESTIMATE.to_json()))) == ESTIMATE
