"""The programs that are compiled for a topology are those that a run executes; what does not fit is named."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs import tiny_dapo, tiny_dpo, tiny_ppo
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.performance.compile import proof, topology
from posttrain_jax.performance.compile.program import Program, RunPrograms
from posttrain_jax.performance.compile.programs_of_a_run import programs_of_run
from posttrain_jax.pipelines.grpo_parts import assemble
from posttrain_jax.types import InputError
from tests.pipelines.small_run import OVERRIDES

ROOT = pathlib.Path(__file__).resolve().parents[3]
SMALL = OVERRIDES | {
  "warmup.steps": 0,
  "model.num_layers": 2,
  "model.embed_dim": 16,
  "model.num_heads": 4,
  "model.num_kv_heads": 2,
  "model.head_dim": 8,
  "model.unroll": 1,
  "mesh.data": 2,
  "mesh.fsdp": 2,
  "mesh.tensor": 2,
  "rollout.groups": 8,
  "rollout.slots": 32,
  "rollout.max_prompt_length": 9,
}


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
# The warning that XLA prints where it can only change a layout by gathering the whole array on every device.
REMATERIALIZED = "Involuntary full rematerialization"


def small(base, **changes):
  config = base.get_config().unlock()
  for name, value in {**SMALL, **changes}.items():
    *groups, field = name.split(".")
    section = config
    for group in groups:
      section = section.get(group, {})
    if field in section:
      section[field] = value
  config.model.vocab_size = 64
  return config


def programs(config):
  return programs_of_run(config, proof.policy_of(config, ""), jax.devices())


def test_a_run_lowers_the_same_programs(tmp_path):
  """Text for text: updates, scoring and the hand-over of a run that was assembled."""
  config = small(tiny_dapo, **{"eval.every": 0})
  with contextlib.ExitStack() as stack:
    parts = assemble(config, str(tmp_path / "run"), stack)
    assert parts.engine.max_prompt_length <= 9
    config.rollout.max_prompt_length = parts.engine.max_prompt_length  # as wide as the data
    run = programs(config)
    learner = parts.learner
    batch = parts.batches([])
    first, second = learner.scorer.split(batch)
    with jax.set_mesh(learner.mesh):
      # From the host, as where an array lies changes the numbers of functions in the text.
      second = dataclasses.replace(second, old_logprobs=second.sampler_logprobs)
      lowered = {
        "update_on_policy": learner.update[True].lower(learner.state, first),
        "update_off_policy": learner.update[False].lower(learner.state, second),
        "old_logprobs": learner.scorer.program.lower(learner.state.params, first),
        "hand_over": parts._handover.lower(learner.state.params),
      }
      for name, expected in lowered.items():
        assert proof.lower(run.programs[name]).as_text() == expected.as_text(), name


def test_what_a_step_of_dapo_calls():
  run = programs(small(tiny_dapo))
  calls = {name: program.calls for name, program in run.programs.items()}
  # 8 groups of 4 answers on 32 slots; 12 tokens, 8 a dispatch; two updates, the first of which scores itself.
  expected = dict(old_logprobs=1, update_on_policy=1, update_off_policy=1, prefill=1, fill=1, decode=2, hand_over=1)
  assert calls == expected
  caches = ("caches", "prefixes", "pool")
  assert set(run.arrays) == {"policy", "optimizer", "sampler", *caches}
  assert run.programs["decode"].frees == () and run.programs["update_on_policy"].frees == caches
  for name in ("prefill", "fill", "decode"):
    given = {id(leaf) for leaf in jax.tree.leaves(run.programs[name].arguments)}
    for array in ("sampler", *caches):
      is_given = [id(leaf) in given for leaf in jax.tree.leaves(run.arrays[array])]
      assert is_given == [array in run.programs[name].takes] * len(is_given), (name, array)
  carried = programs(small(tiny_dapo, **{"dynamic_sampling.admission": "carry", "objective.kl_coefficient": 0.1}))
  assert set(carried.programs) - set(calls) == {"recompute", "reference_logprobs"}


def test_ppo_has_four_models():
  config = small(tiny_ppo, **{"reward_model": "somewhere", "average.decay": 0.9, "ptx.coefficient": 1.0})
  run = programs(config)
  trained = {"policy", "optimizer", "value", "value_optimizer"}
  assert set(run.arrays) == trained | {"reference", "reward", "average", "sampler", "caches", "prefixes", "pool"}
  names = {"old_logprobs", "reference_logprobs", "values", "value_update", "reward", "average"}
  assert names <= set(run.programs)
  for name in names | {"update_off_policy"}:
    proof.lower(run.programs[name])  # arguments that do not fit would be refused


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_dpo(method):
  config = small(tiny_dpo)
  config.objective.update(loss=method)
  run = programs(config)
  assert set(run.programs) == {"update", "reference_logprobs"}
  for program in run.programs.values():
    proof.lower(program)


def test_a_config_that_does_not_fit_its_mesh_is_one_line():
  with pytest.raises(InputError, match=r"mesh: data=2 x fsdp=2 x tensor=4 needs 16 devices, there are 8"):
    programs(small(tiny_dapo, **{"mesh.tensor": 4}))
  with pytest.raises(InputError, match=r"mesh: .*key.* is not divisible by tensor=4"):
    programs(small(tiny_dapo, **{"mesh.data": 1, "mesh.tensor": 4}))
  config = small(tiny_dapo)
  del config.rollout
  with pytest.raises(InputError, match="the config is none of GRPO and its kin, PPO or DPO"):
    programs(config)


@pytest.mark.parametrize(
  ("path", "name", "layers"), [("Qwen2.5-32B", "", 64), ("smollm2-135m-instruct", "", 30), ("", "llama3_2_1b", 16)]
)
def test_sizes_of_a_model_that_is_not_there(path, name, layers):
  config = small(tiny_dapo)
  config.model.path, config.model.compute_dtype, config.model.remat = path, "bfloat16", "full"
  model = proof.policy_of(config, name).model
  assert (model.num_layers, model.compute_dtype, model.remat) == (layers, "bfloat16", "full")


def test_report(monkeypatch):
  """A program of its own on this machine's devices; their memory is too small, so the largest arrays are named."""
  mesh = make_mesh(dict(fsdp=8), jax.devices())
  rows = jax.ShapeDtypeStruct((8, 64), np.float32, sharding=NamedSharding(mesh, PartitionSpec("fsdp")))
  program = Program(jax.jit(lambda x: (x @ x.T).sum()), (rows,), mesh, calls=3, flops=5, takes=("policy",))
  run = RunPrograms({"square": program}, {"policy": rows, "caches": (rows, rows), "reference": rows})
  monkeypatch.setattr(proof, "programs_of_run", lambda *arguments: run)
  monkeypatch.setattr(topology, "devices", lambda name, slices: jax.devices())
  monkeypatch.setattr(topology, "memory_gib", lambda devices: 1e-7)
  said = []
  report = proof.prove(small(tiny_dapo), topology_name="v5e:2x4", say=said.append)
  assert len(said) == 1 and report["mesh"] == dict(data=1, fsdp=8, tensor=1) and report["flops_per_step"] == 15
  row = 64 * 4 / 2**30
  assert report["arrays_gib"] == pytest.approx({"policy": row, "caches": 2 * row, "reference": row}, rel=1e-3)
  found = report["programs"]["square"]
  assert found["beside_gib"] == pytest.approx(row, rel=1e-3)  # the reference; caches are freed before
  assert found["arguments_gib"] == pytest.approx(row, rel=1e-3) and found["peak_gib"] >= row
  assert found["collectives"]["all-reduce"]["count"] == [1]
  (refused,) = report["refused"]
  assert refused.startswith("square needs 0.00 GiB") and "its largest arrays: float32[64,8] " in refused
  json.dumps(report)


def test_the_compilers_refusals():
  far = "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (2.30T) exceeds "
  assert topology.needed_gib(far + "available HBM (95.74G).") == pytest.approx(2.3 * 1024)
  near = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.25G of 15.75G hbm. Exceeded hbm capacity"
  assert topology.needed_gib(near) == 20.25
  assert topology.needed_gib("INTERNAL: something else") is None


def compile_for(*arguments):
  environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
  command = [sys.executable, "-m", "experiments.compile", *arguments]
  return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: launch/README.md")
def test_the_command():
  """A run that fits v5e:2x2; the same with far too many slots; and a mesh that does not divide."""
  flags = [f"--config.{name}={value}" for name, value in TPU.items()]
  child = compile_for("--topology=v5e:2x2", *flags)
  assert child.returncode == 0, child.stderr
  report = json.loads(child.stdout.splitlines()[-1])
  assert (report["hbm_gib"], report["refused"]) == (15.75, [])
  assert set(report["programs"]) == {"update_on_policy", "prefill", "fill", "decode", "hand_over"}
  assert REMATERIALIZED not in child.stderr

  child = compile_for("--topology=v5e:2x2", *flags, "--config.rollout.slots=16777216", "--programs=fill")
  last = child.stderr.splitlines()[-1]
  assert child.returncode == 2 and last.startswith("error: --topology=v5e:2x2: fill needs "), child.stderr
  assert "its largest arrays: bfloat16[16777216," in last
  child = compile_for("--topology=v5e:2x2", *flags, "--programs=train")
  assert child.stderr.splitlines()[-1].startswith("error: --programs: 'train', expected some of update_on_policy, ")
  child = compile_for("--topology=v5e:2x2", *flags, "--config.mesh.fsdp=3")
  assert (child.returncode, child.stdout) == (2, "")
  assert child.stderr.endswith("error: mesh: data=1 x fsdp=3 x tensor=2 needs 6 devices, there are 4\n")
