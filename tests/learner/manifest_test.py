"""Tests when a step counts as finished and when as damaged.

It is finished if it has a manifest, and damaged if its files differ from the manifest.
"""

import json

import jax
import numpy as np
import pytest

from posttrain_jax.learner import checkpoint_folder, manifest
from posttrain_jax.types import InputError

STATE = {"params": {"w": np.zeros((4, 8), np.float32), "b": np.zeros((8,), np.int8)}}


def sealed(directory, step=3, *, best=False):
  (directory / str(step) / "state").mkdir(parents=True)
  (directory / str(step) / "state" / "data").write_bytes(b"weights")
  (directory / str(step) / "extra.json").write_text("{}")
  manifest.seal(directory, step, manifest.describe_leaves(STATE), best=best)
  return directory


def test_a_sealed_step_is_listed_and_whole(tmp_path):
  sealed(sealed(tmp_path, 12), 3, best=True)
  (tmp_path / "20").mkdir()  # without a manifest
  (tmp_path / "x.manifest.json").write_text("{}")
  assert checkpoint_folder.finished_steps(tmp_path) == [3, 12]
  assert manifest.damage(tmp_path, 3) is None
  content = json.loads(manifest.manifest_path(tmp_path, 3).read_text())
  assert content["step"] == 3 and content["best"] and set(content["files"]) == {"state/data", "extra.json"}
  assert content["leaves"] == {"params/b": "int8[8]", "params/w": "float32[4, 8]"}


@pytest.mark.parametrize(
  ("harm", "expected"),
  [
    (lambda step: (step / "state" / "data").write_bytes(b"weighty"), "state/data is not what was written"),
    (lambda step: (step / "extra.json").unlink(), "extra.json is missing"),
    (lambda step: (step / "new").write_text(""), "new is not in the manifest"),
    (lambda step: manifest.manifest_path(step.parent, 3).write_text("{"), "its manifest is not what was"),
    (lambda step: manifest.manifest_path(step.parent, 3).write_text("{}"), "its manifest is not what was"),
    (lambda step: manifest.manifest_path(step.parent, 3).unlink(), "its manifest is missing"),
  ],
)
def test_damage_is_described(tmp_path, harm, expected):
  harm(sealed(tmp_path) / "3")
  assert manifest.damage(tmp_path, 3).startswith(expected)


def test_leaves_that_differ_are_named(tmp_path):
  sealed(tmp_path)
  manifest.check_leaves(tmp_path, 3, jax.eval_shape(lambda: STATE), partial=False)
  part = {"params": {"w": STATE["params"]["w"]}}
  manifest.check_leaves(tmp_path, 3, part, partial=True)
  with pytest.raises(InputError, match=r"leaf params/b is int8\[8\], expected None"):
    manifest.check_leaves(tmp_path, 3, part, partial=False)
  low = {"params": {"w": STATE["params"]["w"].astype(np.float16)}}
  with pytest.raises(InputError, match=r"leaf params/w is float32\[4, 8\], expected float16\[4, 8\]"):
    manifest.check_leaves(tmp_path, 3, low, partial=True)
  with pytest.raises(InputError, match=r"leaf value is absent, expected float32\[2\]"):
    manifest.check_leaves(tmp_path, 3, {"value": np.zeros(2, np.float32)}, partial=True)


def test_a_change_of_software_is_one_line(tmp_path, monkeypatch):
  sealed(tmp_path)
  assert manifest.changes_of_environment(tmp_path, 3) == ()
  now = manifest.software_and_machine() | {"jax": "99"}
  monkeypatch.setattr(manifest, "software_and_machine", lambda: now)
  (change,) = manifest.changes_of_environment(tmp_path, 3)
  assert change.startswith("checkpoint was written with jax ") and "this is '99'" in change


def test_every_flipped_bit_of_a_manifest_is_noticed(tmp_path):
  sealed(sealed(tmp_path, 3), 12)
  path = manifest.manifest_path(tmp_path, 12)
  text = path.read_bytes()
  digest = text.index(b",") + 1  # all bits up to here, and one bit of each byte behind
  for place in [*range(digest * 8), *(i * 8 + i % 8 for i in range(digest, len(text)))]:
    flipped = bytearray(text)
    flipped[place // 8] ^= 1 << place % 8
    path.write_bytes(flipped)
    assert manifest.read(tmp_path, 12) is None, (place, bytes(flipped))
  for place in range(0, len(text) * 8, 997):
    flipped = bytearray(text)
    flipped[place // 8] ^= 1 << place % 8
    path.write_bytes(flipped)
    assert checkpoint_folder.newest_undamaged(tmp_path)[0] == 3
  path.write_bytes(text)
  assert checkpoint_folder.newest_undamaged(tmp_path) == (12, [])


def test_a_manifest_of_another_step_is_damage(tmp_path):
  sealed(sealed(tmp_path, 3), 12)
  manifest.manifest_path(tmp_path, 12).write_bytes(manifest.manifest_path(tmp_path, 3).read_bytes())
  assert manifest.damage(tmp_path, 12).startswith("its manifest is not what was written")
