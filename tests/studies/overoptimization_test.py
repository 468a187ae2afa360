import json

import numpy as np
import pytest

from configs import tiny_overoptimization
from posttrain_jax.runs.preemption import Preempted, Preemption
from posttrain_jax.runs.settings import parse
from posttrain_jax.studies import overoptimization
from posttrain_jax.studies.overoptimization_settings import OveroptimizationSettings
from posttrain_jax.types import InputError

OVERRIDES = {
  "warmup.steps": 2,
  "warmup.demonstrations.per_difficulty": 20,
  "warmup.logging.tensorboard": False,
  "model.num_layers": 1,
  "model.unroll": 1,
  "model.embed_dim": 32,
  "model.mlp_dim": 32,
  "model.num_heads": 2,
  "model.num_kv_heads": 1,
  "model.head_dim": 16,
  "rewards.workers": 0,
  "prompts.per_difficulty": 4,
  "held_out.per_difficulty": 1,
  "rollout.max_new_tokens": 8,
  "rollout.slots": 16,
  "proxy.sizes": (4, 8),
  "proxy.repeats": 2,
  "proxy.updates": 2,
  "proxy.batch_size": 8,
  "mesh.data": 8,
  "best_of_n.samples": 8,
  "best_of_n.n": (1, 2, 8),
  "best_of_n.resamples": 20,
}


def config_of(**changes):
  config = tiny_overoptimization.get_config()
  config.update_from_flattened_dict({**OVERRIDES, **changes})
  return config


def test_a_study_goes_on_with_the_stages_that_are_missing(tmp_path):
  headline = overoptimization.study(config_of(), str(tmp_path / "run"))
  found = json.loads((tmp_path / "run/overoptimization.json").read_text())
  assert headline["last_n"] == 8 and list(headline["proxies"]) == list(found["proxies"]) == ["4", "8"]
  assert (tmp_path / "run/overoptimization.png").stat().st_size > 10_000
  assert found["n"] == [1, 2, 8] and (found["prompts"], found["samples"]) == (6, 8)
  with np.load(tmp_path / "run/samples.npz") as samples:
    np.testing.assert_allclose(found["gold_1"], samples["gold"].mean(), rtol=1e-12)
  for each in found["proxies"].values():
    np.testing.assert_allclose(each["gold"]["mean"][0], found["gold_1"], rtol=1e-9)
    np.testing.assert_allclose(each["proxy"]["mean"][0], found["gold_1"], rtol=1e-9)
    assert each["gold_peak"] == max(each["gold"]["mean"]) and each["gold_last"] == each["gold"]["mean"][-1]
    assert np.all(np.array(each["gold"]["mean"]) <= np.array(found["gold_best"]["mean"]) + 1e-9)
  with np.load(tmp_path / "run/pairs.npz") as pairs:
    assert pairs["answers"].shape == (16, 2, 8)
    np.testing.assert_array_equal(pairs["gold"][:, 0] < pairs["gold"][:, 1], pairs["flipped"])
    assert np.all(pairs["gold"][:, 0] != pairs["gold"][:, 1])

  files = sorted((tmp_path / "run").rglob("*.npz"))
  assert len(files) == 6
  lost = tmp_path / "run/proxies/8_1.npz"
  with np.load(lost) as arrays:
    scores = arrays["scores"]
  before = {file: file.stat().st_mtime_ns for file in files}
  lost.unlink()
  assert overoptimization.study(config_of(), str(tmp_path / "run")) == headline
  with np.load(lost) as arrays:
    np.testing.assert_array_equal(arrays["scores"], scores)
  assert {file for file in files if file.stat().st_mtime_ns != before[file]} == {lost}


def test_a_proxy_that_is_gold_reaches_the_ceiling_and_one_that_turns_is_said_to():
  rng = np.random.default_rng(0)
  gold = rng.normal(size=(40, 64))
  settings = parse(
    OveroptimizationSettings,
    config_of(**{"best_of_n.n": (1, 2, 4, 16, 64), "best_of_n.samples": 64, "best_of_n.resamples": 200}),
  )
  pairs = {"flipped": np.array([True, False, False, False]), "ties": np.array(3)}
  # The second proxy likes gold up to 1 and is mistaken above, where it likes the worst most.
  scores = {10: [gold], 20: [np.where(gold < 1, gold, 9 - gold), gold]}
  found, curves = overoptimization._study(settings, pairs, gold, scores)
  perfect, mistaken = found["proxies"]["10"], found["proxies"]["20"]
  np.testing.assert_allclose(perfect["gold"]["mean"], found["gold_best"]["mean"], rtol=1e-12)
  np.testing.assert_allclose(perfect["proxy"]["mean"], found["gold_best"]["mean"], rtol=1e-9)
  assert (perfect["peak_n"], perfect["drop"], perfect["turned_down"], perfect["order_accuracy"]) == (64, 0, False, 1)
  alone = overoptimization._study(settings, pairs, gold, {20: scores[20][:1]})[0]["proxies"]["20"]
  assert alone["turned_down"] and alone["peak_n"] < 64 and alone["drop_interval"][0] > 0
  # Repeats are averaged.
  expected = (np.array(alone["gold"]["mean"]) + perfect["gold"]["mean"]) / 2
  np.testing.assert_allclose(mistaken["gold"]["mean"], expected, rtol=1e-9)
  assert (found["labels_flipped"], found["pairs_tied"]) == (0.25, 3)
  assert [each.pairs for each in curves.proxies] == [10, 20]


def test_sigterm_ends_the_run_after_the_stage_is_kept(tmp_path):
  with Preemption() as preemption:
    keep = overoptimization._Keeper(preemption)
    assert keep(tmp_path / "a.npz", lambda: {"x": np.arange(3)})["x"].tolist() == [0, 1, 2]
    preemption.requested = True
    with pytest.raises(Preempted, match=r"b\.npz"):
      keep(tmp_path / "b.npz", lambda: {"x": np.arange(2)})
  assert keep(tmp_path / "b.npz", None)["x"].tolist() == [0, 1]


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"best_of_n.n": (1, 2, 16)}, r"best_of_n.n: \(1, 2, 16\), expected .* best_of_n.samples = 8"),
    ({"best_of_n.n": (2, 4, 8)}, "best_of_n.n"),
    ({"best_of_n.n": (1, 8)}, "best_of_n.n"),
    ({"proxy.sizes": (8, 4)}, r"proxy.sizes: \(8, 4\), expected ascending"),
    ({"pairs.noise": 0.5}, "pairs.noise: 0.5"),
    ({"proxy.repeats": 0}, "proxy.repeats: 0, expected at least 1"),
    ({"warmup.steps": 0}, "warmup has no steps; expected a model or a warm-up"),
  ],
)
def test_bad_settings_are_refused_before_anything_is_made(tmp_path, changes, message):
  with pytest.raises(InputError, match=message):
    overoptimization.study(config_of(**changes), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()
