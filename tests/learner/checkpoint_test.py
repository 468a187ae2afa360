import dataclasses
import json
import math
import os
import pathlib
import resource
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posttrain_jax.learner import checkpoint, checkpoint_folder, manifest
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.learner.finite import not_finite
from posttrain_jax.types import InputError, NotFinite

ROOT = pathlib.Path(__file__).resolve().parents[2]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
  step: jax.Array
  params: nnx.State
  opt_state: optax.OptState


class Block(nnx.Module):
  def __init__(self, rngs):
    self.up = nnx.Param(jax.random.normal(rngs.params(), (16, 32), jnp.bfloat16), logical_axes=("embed", "mlp"))


class Model(nnx.Module):
  def __init__(self, rngs):
    self.embed = nnx.Param(jax.random.normal(rngs.params(), (8, 16)), logical_axes=("vocab", "embed"))
    self.blocks = nnx.vmap(Block)(rngs.split(4))


OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.linear_schedule(0.0, 1e-3, 10)))


def make_state(seed=0):
  params = nnx.state(Model(nnx.Rngs(params=seed)))
  return State(jnp.int32(seed), params, OPTIMISER.init(params))


def shardings(shape):
  mesh = Mesh(np.array(jax.devices()[: math.prod(shape)]).reshape(shape), ("fsdp", "tensor"))

  def one(leaf):
    spec = [None] * (leaf.ndim - 2) + ["fsdp", "tensor"] if leaf.ndim > 1 else []
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree.map(one, jax.eval_shape(make_state))


def place(seed=0, shape=(2, 4)):
  return jax.device_put(make_state(seed), shardings(shape))


def target(shape=(2, 4)):
  def one(leaf, sharding):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  return jax.tree.map(one, jax.eval_shape(make_state), shardings(shape))


def finished(directory):
  return checkpoint_folder.finished_steps(directory)


def flip_one_bit(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 8
  path.write_bytes(content)


def largest_file(step_directory):
  return max((path for path in step_directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def test_saving_compiles_nothing(tmp_path):
  # Orbax would cut each replicated array into slices, one for each of 8 replicas, by a program of its own.
  mesh = Mesh(np.array(jax.devices()), ("data",))
  state = {"w": jax.device_put(np.ones((24, 104), np.float32), NamedSharding(mesh, PartitionSpec()))}
  compiles = []

  def count(event, duration, **_):
    compiles.append(event)

  assert not_finite(state) is None  # our own check has a program
  with Checkpointer(tmp_path) as checkpoints:
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
      checkpoints.save(1, state, {})
      checkpoints.wait()
    finally:
      jax.monitoring.unregister_event_duration_listener(count)
  assert any("orbax" in event for event in compiles)
  assert not [event for event in compiles if event.endswith("backend_compile_duration")]


@pytest.mark.parametrize("shape", [(2, 4), (4, 2), (1, 2), (1, 1)])
def test_sharded_state_comes_back_exactly_on_another_mesh(tmp_path, shape):
  state = place(3, (2, 4))
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(5, state, {"prompts": 17})
    restored = checkpointer.restore(target(shape))
  assert (restored.step, restored.extra, restored.notes) == (5, {"prompts": 17}, ())
  assert jax.tree.structure(restored.state) == jax.tree.structure(state)
  assert params_sha256(restored.state) == params_sha256(state)
  for leaf, sharding in zip(jax.tree.leaves(restored.state), jax.tree.leaves(shardings(shape)), strict=True):
    assert leaf.sharding == sharding
  assert restored.state.params["embed"].get_metadata("logical_axes") == ("vocab", "embed")


@pytest.mark.parametrize("spec", [None, PartitionSpec("x", "y"), PartitionSpec(None, "y"), PartitionSpec()])
def test_state_donated_right_after_save_is_saved_as_it_was(tmp_path, spec):
  mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("x", "y"))
  sharding = None if spec is None else {"w": NamedSharding(mesh, spec), "step": NamedSharding(mesh, PartitionSpec())}

  def content(seed):
    return {"w": jax.random.normal(jax.random.key(seed), (1024, 1024)), "step": seed}

  make = jax.jit(content, out_shardings=sharding)
  spoil = jax.jit(lambda state: jax.tree.map(lambda x: x * 0 - 7, state), donate_argnums=0, out_shardings=sharding)
  with Checkpointer(tmp_path, keep=3) as checkpointer:
    for seed in range(3):
      state = make(seed)
      checkpointer.save(seed, state, {})
      spoiled = spoil(spoil(state))
    np.testing.assert_array_equal(spoiled["w"], np.full((1024, 1024), -7.0, np.float32))
  for seed in range(3):
    restored = checkpoint.load(tmp_path, jax.eval_shape(make, 0), step=seed)
    assert params_sha256(restored.state) == params_sha256(make(seed))


def test_restored_state_can_be_donated(tmp_path):
  advance = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
  state = place(1)
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, state, {})
    restored = checkpointer.restore(target())
    for _ in range(3):
      state = advance(state)
    again = restored.state
    for _ in range(3):
      again = advance(again)
  assert params_sha256(again) == params_sha256(state)


def test_extra_is_copied_before_save_returns(tmp_path, monkeypatch):
  write, written = checkpoint.ocp.args.JsonSave, []
  monkeypatch.setattr(checkpoint.ocp.args, "JsonSave", lambda item: written.append(item) or write(item))
  extra = {"queue": [1, 2]}
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(), extra)
    extra["queue"].clear()  # as the loop goes on, while Orbax may not have written yet
    assert written == [{"queue": [1, 2]}]
    assert checkpointer.restore(target()).extra == {"queue": [1, 2]}


def test_extra_comes_back_exactly(tmp_path):
  float32s = np.random.default_rng(0).normal(size=100).astype(np.float32)
  extra = {
    "logprobs": float32s.tolist(),
    "odd": [math.inf, -math.inf, -0.0, 5e-324, 2**80, True, None, "\u2028\ud800é"],
    "nan": math.nan,
  }
  expected = json.dumps(extra)
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(), extra)
    restored = checkpointer.restore(target())
  assert json.dumps(restored.extra) == expected
  np.testing.assert_array_equal(np.array(restored.extra["logprobs"], np.float32), float32s)


@pytest.mark.parametrize("value", [(1, 2), np.float32(1), np.zeros(2), {3: 4}, {"deep": [{"set": {1}}]}])
def test_extra_that_json_would_change_is_refused(tmp_path, value):
  with Checkpointer(tmp_path) as checkpointer, pytest.raises(TypeError, match=r"extra\.queue"):
    checkpointer.save(1, place(), {"queue": value})


def test_nothing_to_restore(tmp_path):
  with Checkpointer(tmp_path / "new") as checkpointer:
    assert checkpointer.restore(target()) is None


def test_keeps_the_newest_and_the_best(tmp_path):
  with Checkpointer(tmp_path, keep=2) as checkpointer:
    for step in range(1, 7):
      checkpointer.save(step, place(step), {}, best=step in (1, 3))
    checkpointer.wait()
    assert finished(tmp_path) == [3, 5, 6]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["3", "5", "6"]
    assert checkpoint.best_step(tmp_path) == 3
    checkpointer.save(7, place(7), {}, best=True)
  assert finished(tmp_path) == [6, 7]


def test_older_steps_stay_until_the_newer_one_is_verified(tmp_path, monkeypatch):
  with Checkpointer(tmp_path, keep=1) as checkpointer:
    checkpointer.save(1, place(1), {})
    checkpointer.wait()
    monkeypatch.setattr(manifest, "damage", lambda directory, step: "unreadable")
    checkpointer.save(2, place(2), {})
    with pytest.raises(OSError, match="could not be read back"):
      checkpointer.wait()
  assert finished(tmp_path) == [1, 2]


def test_saving_a_step_again_leaves_it(tmp_path):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {"first": True})
    checkpointer.save(1, place(2), {"first": False})
    assert checkpointer.restore(target()).extra == {"first": True}


def test_one_flipped_bit_is_noticed_and_the_step_before_is_used(tmp_path):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
    checkpointer.save(2, place(2), {})
  flip_one_bit(largest_file(tmp_path / "2" / "state"))
  with Checkpointer(tmp_path) as checkpointer:
    restored = checkpointer.restore(target())
    assert restored.step == 1
    assert params_sha256(restored.state) == params_sha256(place(1))
    assert "sha256 differs" in restored.notes[0] and "2 is damaged" in restored.notes[0]
    assert restored.notes[1] == "fell back to step 1"
    assert (tmp_path / "2.damaged").is_dir()
    checkpointer.save(2, place(2), {})  # the run arrives there again
    assert checkpointer.restore(target()).step == 2


@pytest.mark.parametrize("harm", ["missing file", "added file", "manifest cut short", "missing step"])
def test_other_damage_is_noticed(tmp_path, harm):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
    checkpointer.save(2, place(2), {})
  if harm == "missing file":
    (tmp_path / "2" / "extra" / "metadata").unlink()
  elif harm == "added file":
    (tmp_path / "2" / "state" / "new").write_text("x")
  elif harm == "missing step":
    (tmp_path / "2").rename(tmp_path / "elsewhere")
  else:
    path = manifest.manifest_path(tmp_path, 2)
    path.write_text(path.read_text()[:-20])
  with Checkpointer(tmp_path) as checkpointer:
    assert checkpointer.restore(target()).step == 1


def test_all_steps_damaged_is_an_error_not_a_new_start(tmp_path):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
  flip_one_bit(largest_file(tmp_path / "1" / "state"))
  with Checkpointer(tmp_path) as checkpointer, pytest.raises(InputError, match=r"1 is damaged.*no undamaged step"):
    checkpointer.restore(target())
  assert (tmp_path / "1").is_dir()


def test_a_step_that_lost_its_manifest_is_set_aside_not_deleted(tmp_path):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
    checkpointer.save(2, place(2), {})
  manifest.manifest_path(tmp_path, 2).unlink()
  before = {
    path.relative_to(tmp_path / "2"): path.read_bytes() for path in (tmp_path / "2").rglob("*") if path.is_file()
  }
  assert checkpoint.load(tmp_path, target()).step == 1
  assert (tmp_path / "2").is_dir()  # reading changes nothing
  with Checkpointer(tmp_path) as checkpointer:
    restored = checkpointer.restore(target())
    assert restored.step == 1
    assert "2 is damaged: its manifest is missing" in restored.notes[0]
    assert not (tmp_path / "2").exists()
    checkpointer.save(2, place(2), {})
  assert finished(tmp_path) == [1, 2]
  aside = tmp_path / "2.damaged"
  assert {path.relative_to(aside): path.read_bytes() for path in aside.rglob("*") if path.is_file()} == before


def test_all_manifests_lost_is_an_error_and_deletes_nothing(tmp_path):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
    checkpointer.save(2, place(2), {})
  kept = {step: manifest.manifest_path(tmp_path, step).read_bytes() for step in (1, 2)}
  for step in kept:
    manifest.manifest_path(tmp_path, step).unlink()
  for _ in range(2):  # a second start finds the same
    with (
      Checkpointer(tmp_path) as checkpointer,
      pytest.raises(InputError, match="2 is damaged: its manifest is missing"),
    ):
      checkpointer.restore(target())
  manifest.manifest_path(tmp_path, 1).write_bytes(kept[1])  # as from a copy
  with Checkpointer(tmp_path) as checkpointer:
    assert checkpointer.restore(target()).step == 1
  manifest.manifest_path(tmp_path, 1).unlink()
  (tmp_path / "1").rename(tmp_path / "1.damaged")  # nothing is left but what was set aside
  with Checkpointer(tmp_path) as checkpointer, pytest.raises(InputError, match="was set aside as damaged"):
    checkpointer.restore(target())


def test_strays_are_ignored_with_one_warning(tmp_path, caplog):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
  (tmp_path / "77").mkdir()
  (tmp_path / "3").write_text("a file")
  (tmp_path / "\u00b2.manifest.json").write_text("{}")  # a digit, but no number
  (tmp_path / "007.manifest.json").write_text("{}")
  manifest.manifest_path(tmp_path, 2).mkdir()
  (tmp_path / "notes").mkdir()
  with caplog.at_level("WARNING", "absl"), Checkpointer(tmp_path) as checkpointer:
    restored = checkpointer.restore(target())
    assert (restored.step, restored.notes) == (1, ())
    (warning,) = (record.getMessage() for record in caplog.records)
    for name in ("77", "3", "\u00b2.manifest.json", "007.manifest.json", "2.manifest.json", "notes"):
      assert name in warning
    for step in (2, 3):  # whose names are taken
      checkpointer.save(step, place(step), {})
      checkpointer.wait()
  assert finished(tmp_path) == [2, 3] and manifest.damage(tmp_path, 2) is None
  assert (tmp_path / "3.damaged").read_text() == "a file" and (tmp_path / "77").is_dir()


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_a_file_that_cannot_be_read_is_damage(tmp_path, monkeypatch, error):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
    checkpointer.save(2, place(2), {})
  digest = manifest.hashlib.file_digest

  def fails(file, name):
    if "2/state" in file.name:
      raise error
    return digest(file, name)

  monkeypatch.setattr(manifest.hashlib, "file_digest", fails)
  with Checkpointer(tmp_path) as checkpointer:
    restored = checkpointer.restore(target())
  assert restored.step == 1 and error.strerror in restored.notes[0]


def test_files_of_the_caller_are_written_beside_and_protected(tmp_path):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {}, files={"groups": lambda: b"one"})
    checkpointer.save(2, place(2), {}, files={"groups": lambda: b"two"})
    restored = checkpointer.restore(target())
    assert (restored.path / "groups").read_bytes() == b"two"
  (tmp_path / "2" / "groups").write_bytes(b"twp")
  restored = checkpoint.load(tmp_path, target())
  assert (restored.step, (restored.path / "groups").read_bytes()) == (1, b"one")
  assert restored.notes[0].endswith("groups is not what was written (sha256 differs)")


def test_a_file_that_cannot_be_made_fails_the_save(tmp_path):
  def broken():
    raise OSError(28, "No space left on device")

  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {}, files={"groups": broken})
    checkpointer._sealing.join()
    with pytest.raises(OSError, match="No space left"):
      checkpointer.check()  # without waiting for the next save
    checkpointer.check()  # it is told once
  assert finished(tmp_path) == []
  with Checkpointer(tmp_path) as checkpointer:
    assert checkpointer.restore(target()) is None  # the half-written step is known to be unfinished
    assert list(tmp_path.iterdir()) == []


def test_another_machine_is_reported_and_not_refused(tmp_path, monkeypatch):
  then = manifest.software_and_machine()
  assert then["devices"] == 8
  monkeypatch.setattr(manifest, "software_and_machine", lambda: then | {"devices": 4, "jaxlib": "0.1"})
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
  monkeypatch.setattr(manifest, "software_and_machine", lambda: then)
  with Checkpointer(tmp_path) as checkpointer:
    notes = checkpointer.restore(target()).notes
  assert len(notes) == 2
  assert "jaxlib '0.1'" in notes[0] and "devices 4, this is 8" in notes[1]


@pytest.mark.parametrize(
  "change",
  [lambda leaf: jax.ShapeDtypeStruct((2, 2), leaf.dtype), lambda leaf: jax.ShapeDtypeStruct(leaf.shape, "int8")],
)
def test_another_shape_or_dtype_names_the_leaf(tmp_path, change):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, {})
    expected = {"w": jax.ShapeDtypeStruct((2, 3), "float32"), "b": jax.ShapeDtypeStruct((3,), "float32")}
    with pytest.raises(InputError, match=r"leaf w is float32\[2, 3\], expected"):
      checkpointer.restore(expected | {"w": change(expected["w"])})


def test_loads_parameters_alone(tmp_path):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
  restored = checkpoint.load(tmp_path, {"params": target((1, 2)).params}, partial=True)
  assert params_sha256(restored.state["params"]) == params_sha256(place(1).params)
  with pytest.raises(InputError, match="step 9 is not there, expected one of \\[1\\]"):
    checkpoint.load(tmp_path, target(), step=9)


def test_a_failed_save_is_raised(tmp_path, monkeypatch):
  def full(*args, **kwargs):
    raise OSError("No space left on device")

  with Checkpointer(tmp_path) as checkpointer:
    monkeypatch.setattr(manifest, "seal", full)
    checkpointer.save(1, place(1), {})
    with pytest.raises(OSError, match="No space left"):
      checkpointer.wait()
  assert finished(tmp_path) == []


# Saves steps 1 and 2 with `keep=1`, and dies during the second at the moment that `moment` names.
KILLED = """
import os, signal, sys
import jax, jax.numpy as jnp
from posttrain_jax import atomic_files
from posttrain_jax.learner import checkpoint, checkpoint_folder, manifest

directory, moment = sys.argv[1:]
die = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
make = jax.jit(lambda seed: {"w": jnp.arange(2**21, dtype=jnp.int32).reshape(2048, 1024) * seed})
checkpointer = checkpoint.Checkpointer(directory, keep=1)
checkpointer.save(1, make(1), {"at": 1})
checkpointer.wait()
if moment == "before the manifest":
  manifest.seal = die
if moment == "before the manifest has its name":
  atomic_files.write_bytes = lambda path, text: (path.with_name(path.name + ".tmp").write_bytes(text), die())
if moment == "while the old step is deleted":
  checkpoint_folder.shutil.rmtree = die
if moment == "before the mark of the old step is removed":
  mark = checkpoint_folder.mark_finished
  checkpoint_folder.mark_finished = lambda directory, step: die() if step == 1 else mark(directory, step)
checkpointer.save(2, make(2), {"at": 2})
if moment == "while data is written":
  die()
checkpointer.wait()
"""


@pytest.mark.parametrize(
  "moment",
  [
    "while data is written",
    "before the manifest",
    "before the manifest has its name",
    "while the old step is deleted",
    "before the mark of the old step is removed",
  ],
)
def test_sigkill_leaves_the_newest_complete_step(tmp_path, moment):
  script = tmp_path / "killed.py"
  script.write_text(KILLED)
  directory = tmp_path / "checkpoints"
  environment = os.environ | {"PYTHONPATH": str(ROOT)}
  child = subprocess.run([sys.executable, script, directory, moment], env=environment, capture_output=True, text=True)
  assert child.returncode == -signal.SIGKILL, child.stderr
  make = jax.jit(lambda seed: {"w": jnp.arange(2**21, dtype=jnp.int32).reshape(2048, 1024) * seed})
  with Checkpointer(directory, keep=1) as checkpointer:
    restored = checkpointer.restore(jax.eval_shape(make, 0))
    expected = {"while data is written": (1, 2)}.get(moment, (2,) if "old step" in moment else (1,))
    assert restored.step in expected
    assert restored.extra == {"at": restored.step}
    assert params_sha256(restored.state) == params_sha256(make(restored.step))
    assert {path.name for path in directory.iterdir()} == {f"{restored.step}", f"{restored.step}.manifest.json"}
    checkpointer.save(3, make(3), {})
  assert finished(directory) == [3]


def test_a_failed_write_is_raised_and_not_logged_besides(tmp_path, capfd):
  """As on a full disk: Orbax's threads would print the traceback that the caller gets."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  state = {"w": np.random.default_rng(0).normal(size=(512, 1024))}
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, {"w": np.zeros((2, 2))}, {})
    checkpointer.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))  # Python ignores SIGXFSZ
    try:
      checkpointer.save(2, state, {})
      with pytest.raises(Exception, match="File too large"):
        checkpointer.wait()
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert finished(tmp_path) == [1]
  assert "Traceback" not in capfd.readouterr().err


def test_a_parameter_that_is_not_finite_is_neither_saved_nor_read(tmp_path, monkeypatch):
  state = place(1)
  state.params["embed"] = state.params["embed"].replace(state.params["embed"][...].at[2, 3].set(jnp.nan))
  with Checkpointer(tmp_path) as checkpointer:
    with pytest.raises(NotFinite, match=r"step 3: params/embed.* holds NaN or infinity; it is not saved"):
      checkpointer.save(3, state, {})
    assert finished(tmp_path) == []
    with monkeypatch.context() as patch:
      patch.setattr(checkpoint, "not_finite", lambda tree: None)  # as a version without the check wrote it
      checkpointer.save(4, state, {})
      checkpointer.wait()
  with pytest.raises(InputError, match=r"/4: params/embed.* holds NaN or infinity, expected finite numbers"):
    checkpoint.load(tmp_path, target())
