import json
import os
import pathlib
import signal
import subprocess
import sys

import ml_collections
import pytest

from posttrain_jax.runs import workdir
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.types import InputError

ROOT = pathlib.Path(__file__).resolve().parents[2]


def make_config(**changes):
  config = ml_collections.ConfigDict(
    {
      "seed": 0,
      "steps": 10,
      "model": {"width": 64, "layers": (1, 2), "name": "tiny"},
      "mesh": {"data": 1},
      "memory": {"optimizer": "device"},
      "checkpoint": {"every": 5},
      "eval": {"every": 5, "samples": {"k": 8}},
      "logging": {"tensorboard": True},
      "loss": {"clip_high": 0.28, "dual_clip": float("nan"), "on": True},
    }
  )
  config.update_from_flattened_dict(changes)
  return config.to_dict()


def start(path, digests=None, **changes):
  with Workdir.open(path, make_config(**changes), digests or {"prompts": "abc"}) as opened:
    return opened.resumed


def test_a_new_run_gets_its_files(tmp_path):
  with Workdir.open(tmp_path / "a" / "b", make_config(), {"prompts": "abc"}) as opened:
    assert not opened.resumed
    assert opened.checkpoints.is_dir() and opened.rollouts.is_dir()
    assert opened.path == tmp_path / "a" / "b"
  content = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
  assert content["model"] == {"width": 64, "layers": [1, 2], "name": "tiny"}
  assert content["digests"] == {"prompts": "abc"}
  assert workdir.read_config(tmp_path / "a" / "b").model.layers == (1, 2)
  assert "digests" not in workdir.read_config(tmp_path / "a" / "b")


def test_the_same_config_resumes(tmp_path):
  assert not start(tmp_path)
  assert start(tmp_path)


def test_processes_that_disagree_are_refused(tmp_path, monkeypatch):
  def send(other):
    monkeypatch.setattr(workdir, "exchange", lambda own: [own, json.dumps(other(json.loads(own))).encode()])

  send(lambda content: content | {"seed": 1})
  with pytest.raises(InputError, match="seed: process 1 has 1, process 0 has 0; expected the same"):
    start(tmp_path / "run")
  send(lambda content: content | {"digests": {}})
  with pytest.raises(InputError, match=r'digests\.prompts: process 1 has absent, process 0 has "abc"'):
    start(tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_length_mesh_and_what_only_looks_may_differ(tmp_path):
  start(tmp_path)
  free = {
    "steps": 20,
    "mesh.data": 8,
    "memory.optimizer": "host",
    "checkpoint.every": 1,
    "eval.samples.k": 4,
    "logging.tensorboard": False,
  }
  assert start(tmp_path, **free)
  assert workdir.read_config(tmp_path).steps == 20


def test_one_place_may_be_written_in_several_ways(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  monkeypatch.chdir(tmp_path)

  def again(path, text="~/rows.jsonl"):
    with Workdir.open(tmp_path / "run", {**make_config(), "data": {"path": path, "text": text}}) as opened:
      return opened.resumed

  assert not again("~/rows.jsonl")
  for path in (str(tmp_path / "home" / "rows.jsonl"), "home/rows.jsonl", "./home//rows.jsonl"):
    assert again(path)
  for changed in (("rows.jsonl",), ("",), ("~/rows.jsonl", str(tmp_path / "home" / "rows.jsonl"))):
    with pytest.raises(InputError, match=r"data\.(path|text) was .* when the run started, found"):
      again(*changed)


def test_the_end_of_a_decay_that_was_not_set_is_explained(tmp_path):
  first, longer = ({**make_config(), "optimizer": {"decay_updates": end}} for end in (4, 8))
  Workdir.open(tmp_path, first).close()
  message = r"decay_updates was 4 .* found 8 now \(0 stands .* --config\.optimizer\.decay_updates=4 keeps the rate's"
  with pytest.raises(InputError, match=message):
    Workdir.open(tmp_path, longer)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"model.width": 32}, "config.json: model.width was 64 when the run started, found 32 now"),
    ({"model.layers": (1, 3)}, "model.layers was [1, 2] when the run started, found [1, 3] now"),
    ({"model.name": "big", "seed": 1}, 'model.name was "tiny" when the run started, found "big" now'),
    ({"loss.dual_clip": 3.0}, "loss.dual_clip was NaN when the run started, found 3.0 now"),
    ({"digests": {"prompts": "xyz"}}, 'digests.prompts was "abc" when the run started, found "xyz" now'),
    ({"digests": {"prompts": "abc", "new": "d"}}, 'digests.new was absent when the run started, found "d" now'),
    ({"digests": {"new": "abc"}}, 'digests.new was absent when the run started, found "abc" now'),
  ],
)
def test_any_other_difference_is_named_with_both_values(tmp_path, changes, message):
  start(tmp_path)
  before = (tmp_path / "config.json").read_text()
  with pytest.raises(InputError) as raised:
    start(tmp_path, **changes)
  assert message in str(raised.value) and "\n" not in str(raised.value)
  assert (tmp_path / "config.json").read_text() == before
  assert start(tmp_path)  # the lock was given back


def test_fields_that_came_or_went(tmp_path):
  start(tmp_path)
  config = make_config()
  del config["loss"]["on"]
  with pytest.raises(InputError, match=r"loss\.on was true when the run started, found absent now"):
    Workdir.open(tmp_path, config, {"prompts": "abc"})


def test_a_directory_of_something_else_is_left_alone(tmp_path):
  (tmp_path / "thesis.tex").write_text("x")
  with pytest.raises(InputError, match=r"found 'thesis.tex' and no config.json"):
    start(tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
  with pytest.raises(InputError, match="found a file, expected a directory"):
    start(tmp_path / "thesis.tex")


def test_a_start_that_was_killed_early_can_be_repeated(tmp_path):
  (tmp_path / "lock").write_text("123\n")
  (tmp_path / "config.json.tmp").write_text('{"see')
  assert not start(tmp_path)


def test_a_broken_config_file_is_named(tmp_path):
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(InputError, match=r"config.json: cannot be read"):
    start(tmp_path)


def test_values_that_json_cannot_hold_are_named(tmp_path):
  config = make_config()
  config["model"]["act"] = len
  with pytest.raises(InputError, match=r"config field model\.act: found builtin_function_or_method"):
    Workdir.open(tmp_path / "new", config)
  assert not (tmp_path / "new").exists()


def test_reading_what_is_no_workdir(tmp_path):
  with pytest.raises(InputError, match=r"found no config.json, expected the workdir of a run"):
    workdir.read_config(tmp_path)


# Opens the directory, or prints why not; then, told so, forks a child and is ready to be killed.
HOLDER = """
import os, sys, time
import ml_collections
from posttrain_jax.runs.workdir import Workdir
try:
  opened = Workdir.open(sys.argv[1], {"seed": 0})
except ValueError as error:
  sys.exit(str(error))
if os.fork() == 0:
  time.sleep(20)
  os._exit(0)
print("open", flush=True)
time.sleep(20)
"""


def test_one_process_at_a_time_and_sigkill_frees_it(tmp_path):
  command = [sys.executable, "-c", HOLDER, str(tmp_path)]
  options = {"env": os.environ | {"PYTHONPATH": str(ROOT)}, "text": True}
  holder = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, **options)
  try:
    assert holder.stdout.readline() == "open\n"
    second = subprocess.run(command, capture_output=True, **options)
    assert second.returncode == 1
    assert f"in use by another process (pid {holder.pid})" in second.stderr
    holder.kill()  # but not its child, as a verifier may outlive its parent
    holder.wait()
    with Workdir.open(tmp_path, {"seed": 0}) as opened:
      assert opened.resumed
  finally:
    os.killpg(holder.pid, signal.SIGKILL)
