"""Tests that what a checkpoint saves comes back exactly, in any layout, and that nothing else is taken."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posttrain_jax.learner import checkpoint, manifest
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.learner.finite import not_finite
from posttrain_jax.types import InputError, NotFinite
from tests.learner.small_state import finished, place, shardings, target


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
    return {"w": jnp.arange(2**20, dtype=jnp.float32).reshape(1024, 1024) + seed, "step": seed}

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
