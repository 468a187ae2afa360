"""Tests the report on compiled programs.

A program that does not fit is named with its largest arrays.
"""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs import tiny_dapo
from posttrain_jax import losses
from posttrain_jax.models.sizes import sizes
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.performance.compile import proof, topology
from posttrain_jax.performance.compile.program import Program, RunPrograms
from posttrain_jax.performance.compile.programs_of_a_run import parse_method
from posttrain_jax.performance.counts import Pass, PassKind
from tests.performance.compile.small_config import small

ROOT = pathlib.Path(__file__).resolve().parents[3]
TPU = {
  "mesh.fsdp": 2,
  "mesh.tensor": 2,
  "model.vocab_size": 64,
  "model.num_layers": 2,
  "model.num_heads": 2,
  "model.num_kv_heads": 2,
  "model.compute_dtype": "bfloat16",
  "model.remat": "full",
  "model.unroll": 1,
  "rollout.groups": 8,
  "rollout.group_size": 2,
  "rollout.slots": 16,
  "learner.updates_per_step": 1,
}
WORK = Pass(sizes("smol_4layer"), PassKind.FORWARD, tokens=1, pairs=0, logits=0)
# The warning that XLA prints where it can only change a layout by gathering the whole array on every device.
REMATERIALIZED = "Involuntary full rematerialization"


@pytest.mark.parametrize(
  ("path", "name", "layers"), [("Qwen2.5-32B", "", 64), ("smollm2-135m-instruct", "", 30), ("", "llama3_2_1b", 16)]
)
def test_sizes_of_a_model_that_is_not_there(path, name, layers):
  config = small(tiny_dapo)
  config.model.path, config.model.compute_dtype, config.model.remat = path, "bfloat16", "full"
  model = proof.policy_of(parse_method(config).model, name).model
  assert (model.num_layers, model.compute_dtype, model.remat) == (layers, "bfloat16", "full")


def test_report(monkeypatch):
  """Compiles a program for this machine's devices.

  Their memory is too small, so the largest arrays are named.
  """
  mesh = make_mesh(dict(fsdp=8), jax.devices())
  rows = jax.ShapeDtypeStruct((8, 64), np.float32, sharding=NamedSharding(mesh, PartitionSpec("fsdp")))
  program = Program(jax.jit(lambda x: (x @ x.T).sum()), (rows,), mesh, calls=3, work=WORK, takes=("policy",))
  run = RunPrograms({"square": program}, {"policy": rows, "caches": (rows, rows), "reference": rows})
  monkeypatch.setattr(proof, "programs_of_run", lambda *arguments, **options: run)
  monkeypatch.setattr(topology, "devices", lambda name, slices: jax.devices())
  monkeypatch.setattr(topology, "memory_gib", lambda devices: 1e-7)
  said = []
  report = proof.prove(small(tiny_dapo), topology_name="v5e:2x4", say=said.append)
  assert (
    len(said) == 1
    and report["mesh"] == dict(data=1, fsdp=8, tensor=1)
    and report["flops_per_step"] == 3 * WORK.flops > 0
  )
  assert report["step_at_best"] is None  # what this machine's devices can do is not in the table
  row = 64 * 4 / 2**30
  assert report["arrays_gib"] == pytest.approx({"policy": row, "caches": 2 * row, "reference": row}, rel=1e-3)
  found = report["programs"]["square"]
  assert found["beside_gib"] == pytest.approx(row, rel=1e-3)  # the reference; caches are freed before
  assert found["arguments_gib"] == pytest.approx(row, rel=1e-3) and found["peak_gib"] >= row
  assert found["at_best"] is None
  assert found["collectives"]["all-reduce"]["count"] == [1]
  (refused,) = report["refused"]
  assert refused.startswith("square needs 0.00 GiB") and "its largest arrays: float32[64,8] " in refused
  json.dumps(report)


def test_an_array_that_does_not_fit_is_named_with_its_line(monkeypatch):
  """The line is that of the package's function which made it."""
  mesh = make_mesh(dict(fsdp=8), jax.devices())
  x = jax.ShapeDtypeStruct((8, 64), np.float32, sharding=NamedSharding(mesh, PartitionSpec("fsdp")))
  function = jax.jit(lambda x: losses.kl.kl_estimate(x, 2 * x, estimator="k2").sum())
  program = Program(function, (x,), mesh, calls=1, work=WORK, takes=())
  monkeypatch.setattr(proof, "programs_of_run", lambda *arguments, **options: RunPrograms({"kl": program}, {}))
  monkeypatch.setattr(topology, "devices", lambda name, slices: jax.devices())
  monkeypatch.setattr(topology, "memory_gib", lambda devices: 0.0)
  (refused,) = proof.prove(small(tiny_dapo), topology_name="v5e:2x4")["refused"]
  assert re.search(r"\[8,64\] 0\.0 GiB \(\w+ at kl\.py:\d+\)", refused), refused


def compile_for(*arguments):
  environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
  command = [sys.executable, "-m", "experiments.compile", *arguments]
  return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: launch/README.md")
def test_the_command():
  """Compiles a run that fits v5e:2x2, the same with far too many slots, and one whose mesh does not divide."""
  flags = [f"--config.{name}={value}" for name, value in TPU.items()]
  child = compile_for("--topology=v5e:2x2", *flags)
  assert child.returncode == 0, child.stderr
  report = json.loads(child.stdout.splitlines()[-1])
  assert (report["hbm_gib"], report["refused"]) == (15.75, [])
  assert set(report["programs"]) == {"update_on_policy", "prefill", "decode", "hand_over"}
  assert REMATERIALIZED not in child.stderr
  for found in report["programs"].values():
    assert found["at_best"]["bound"] in ("compute", "memory", "links") and found["at_best"]["seconds"] > 0
  (few,) = report["programs"]["decode"]["at_best"]["warnings"]
  assert few.startswith("8 rows a batch shard, expected at least 243 on v5e")
  assert report["step_at_best"]["drawn_tokens_per_second_per_chip"] > 0

  child = compile_for("--topology=v5e:2x2", *flags, "--config.rollout.slots=16777216", "--programs=prefill")
  last = child.stderr.splitlines()[-1]
  assert child.returncode == 2 and last.startswith("error: --topology=v5e:2x2: prefill needs "), child.stderr
  assert "its largest arrays: bfloat16[33554432," in last  # pages: of each slot one for its answer and one for a prompt
  child = compile_for("--topology=v5e:2x2", *flags, "--programs=train")
  assert child.stderr.splitlines()[-1].startswith("error: --programs: 'train', expected some of update_on_policy, ")
  child = compile_for("--topology=v5e:2x2", *flags, "--config.mesh.fsdp=3")
  assert (child.returncode, child.stdout) == (2, "")
  assert child.stderr.endswith("error: mesh: data=1 x fsdp=3 x tensor=2 needs 6 devices, there are 4\n")
