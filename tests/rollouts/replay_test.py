"""Tests that a replay trains on another run's rollouts, to the bit, without sampling."""

import dataclasses
import gzip
import json
import re
import shutil

import jax
import numpy as np
import pytest

from configs import tiny_dapo
from posttrain_jax.pipelines import grpo
from posttrain_jax.rollouts import group_arrays
from posttrain_jax.runs.journal import read_metrics, reproducible
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import InputError
from tests.pipelines.small_run import OVERRIDES

STEPS = 4
_compiles = []
jax.monitoring.register_event_duration_secs_listener(
  lambda event, duration, **_: _compiles.append(event) if event.endswith("backend_compile_duration") else None
)


def small(**changes):
  # Two updates a step and groups carried from one to the next: stored groups are not always those of their step.
  config = tiny_dapo.get_config()
  fields = OVERRIDES | {
    "mesh.data": 8,
    "rollout.groups": 16,
    "rollout.slots": 32,
    "model.num_layers": 1,
    "steps": STEPS,
  }
  fields |= {"warmup.steps": 0, "eval.every": 0, "checkpoint.every": 1, "logging.report": False}
  config.update_from_flattened_dict(fields | {"logging.groups_every": 1} | changes)
  return config.lock()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("source") / "run"
  grpo.train(small(), str(workdir))
  return workdir


@pytest.fixture
def never_samples(monkeypatch):
  def refuse(*_):
    raise AssertionError("a replay drew a rollout")

  monkeypatch.setattr(Engine, "submit", refuse)
  monkeypatch.setattr(Engine, "generate", refuse)


def digests(workdir):
  return [record["params_sha256"] for record in read_metrics(workdir) if record["step"]]


def stored(workdir):
  return {path.name: path.read_bytes() for path in (workdir / "rollouts").glob("*.groups.safetensors.gz")}


def test_the_run_is_worth_replaying(source):
  records = read_metrics(source)
  assert any(record.get("sampling/carried") for record in records)
  assert len(set(digests(source))) == STEPS == len(stored(source))


@pytest.mark.usefixtures("never_samples")
def test_the_same_objective_gives_the_same_bits_also_resumed_midway(source, tmp_path):
  for steps in (2, STEPS):
    grpo.train(small(replay=str(source), steps=steps), str(tmp_path / "run"))
  assert digests(tmp_path / "run") == digests(source)
  assert stored(tmp_path / "run") == stored(source)
  original, replayed = read_metrics(source)[-1], reproducible(read_metrics(tmp_path / "run")[-1])
  missing = {name for name in reproducible(original) if name not in replayed}
  about_sampling = {name for name in original if name.startswith(("sampling/", "prompts/"))}
  assert missing <= about_sampling | {"length/trained_minus_generated"}
  assert replayed["replay/step"] == STEPS and replayed["sampling/tokens_generated"] == 0
  for name in ("loss", "grad_norm", "kl/k1_sampler", "accuracy/trained", "length/trained", "sampling/tokens_trained"):
    assert replayed[name] == original[name], name


@pytest.mark.usefixtures("never_samples")
def test_another_objective_sees_the_same_tokens(source, tmp_path):
  changes = {"objective.aggregation": "sequence_mean", "advantage": "leave_one_out", "logging.groups_every": 2}
  grpo.train(small(replay=str(source), **changes), str(tmp_path / "run"))
  assert not set(digests(tmp_path / "run")) & set(digests(source))
  expected = stored(source)
  assert stored(tmp_path / "run") == {name: expected[name] for name in sorted(expected)[1::2]}
  # A replay of that run takes what it stored, steps 2 and 4, in order.
  grpo.train(small(replay=str(tmp_path / "run"), steps=2), str(tmp_path / "again"))
  assert [record["replay/step"] for record in read_metrics(tmp_path / "again")[1:]] == [2, 4]


def test_a_resume_with_other_rollouts_is_refused(source, tmp_path):
  other = tmp_path / "other"
  shutil.copytree(source, other)
  grpo.train(small(replay=str(other), steps=0), str(tmp_path / "run"))
  digest = json.loads((tmp_path / "run" / "config.json").read_text())["digests"]["replay"]
  with pytest.raises(InputError, match=r"config\.json: replay was .*other.*found .*source"):
    grpo.train(small(replay=str(source), steps=0), str(tmp_path / "run"))
  with pytest.raises(InputError, match=r"config\.json: replay was .*other.*found \"\" now"):
    grpo.train(small(steps=0), str(tmp_path / "run"))
  (other / "rollouts" / "step_000003.groups.safetensors.gz").write_bytes(
    stored(source)["step_000002.groups.safetensors.gz"]
  )
  with pytest.raises(InputError, match=rf"config\.json: digests\.replay was \"{digest}\""):
    grpo.train(small(replay=str(other), steps=0), str(tmp_path / "run"))


def refused(tmp_path, **changes):
  _compiles.clear()
  with pytest.raises(InputError) as error:
    grpo.train(small(**changes), str(tmp_path / "refused"))
  assert "\n" not in str(error.value)
  assert not (tmp_path / "refused").exists() and not _compiles
  return str(error.value)


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({"steps": 5}, "holds the groups of 4 steps, steps is 5"),
    ({"rollout.groups": 32}, "rollout.groups: 32, expected 16 as in --replay="),
    ({"rollout.group_size": 3}, "rollout.group_size: 3, expected 4 as in --replay="),
    ({"rollout.sampling.temperature": 0.5}, "rollout.sampling.temperature: 0.5, expected 1.0 as in --replay="),
    ({"rollout.max_new_tokens": 8}, "tokens, expected at most rollout.max_new_tokens = 8"),
  ],
)
def test_rollouts_that_do_not_fit(source, tmp_path, changes, expected):
  assert expected in refused(tmp_path, replay=str(source), **changes)


def test_longer_prompts_than_the_learner_has_room_for(source, tmp_path):
  prompts = tmp_path / "prompts.jsonl"
  prompts.write_text('{"prompt": "1+2=", "answer": "3"}\n')
  message = refused(tmp_path, replay=str(source), **{"prompts.path": str(prompts)})
  assert re.search(
    r"groups\.safetensors\.gz, group \d+: found a prompt of \d tokens, expected at most 3, the longest in", message
  )


def test_no_run_no_groups_and_broken_ones(source, tmp_path):
  assert "absent: no such directory" in refused(tmp_path, replay=str(tmp_path / "absent"))
  assert "found no config.json" in refused(tmp_path, replay=str(tmp_path))
  run = tmp_path / "run"
  shutil.copytree(source, run)
  first = run / "rollouts" / "step_000001.groups.safetensors.gz"
  content = first.read_bytes()
  groups = group_arrays.unpack(gzip.decompress(content))
  flipped = bytearray(content)
  flipped[len(content) // 2] ^= 8
  for broken in (b"no gzip", content[:-20], bytes(flipped), gzip.compress(b"no groups"), gzip.compress(b"")):
    first.write_bytes(broken)
    assert "step_000001.groups.safetensors.gz: cannot be read" in refused(tmp_path, replay=str(run))
  first.write_bytes(gzip.compress(group_arrays.pack(groups * 2)))
  assert "found 32 groups, expected at most rollout.groups = 16" in refused(tmp_path, replay=str(run))
  short = dataclasses.replace(groups[1], answers=groups[1].answers[:-1])
  first.write_bytes(gzip.compress(group_arrays.pack([groups[0], short])))
  assert "gz, group 2: found 3 answers, expected rollout.group_size = 4" in refused(tmp_path, replay=str(run))
  config = json.loads((run / "config.json").read_text())
  config["digests"]["tokenizer"] = "0" * 64
  (run / "config.json").write_text(json.dumps(config))
  assert "another tokeniser" in refused(tmp_path, replay=str(run))
  for file in (run / "rollouts").glob("*.gz"):
    file.unlink()
  (run / "config.json").write_text((source / "config.json").read_text())
  assert "expected a run with logging.groups_every > 0" in refused(tmp_path, replay=str(run))


def test_a_step_without_any_group_is_replayed_as_one(source, tmp_path):
  run = tmp_path / "run"
  shutil.copytree(source, run)
  (run / "rollouts" / "step_000001.groups.safetensors.gz").write_bytes(gzip.compress(group_arrays.pack([])))
  grpo.train(small(replay=str(run), steps=2), str(tmp_path / "replay"))
  _, first, second = read_metrics(tmp_path / "replay")
  assert first["sampling/groups_trained"] == first["updates"] == 0
  assert second["sampling/groups_trained"] == 16 and second["updates"] == 2 and np.isfinite(second["loss"])
