"""Compiles a config's programs for TPUs, without a TPU, and checks that they fit.

A program's peak includes its arguments. The arrays that stay on the devices while it runs are added: the other models
and, during the rollout, the optimiser's state. Caches and the sampler's parameters are not added to the learner's
programs, as the run frees them first.
"""

import dataclasses
import pathlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.extend.core
import ml_collections
import numpy as np

from posttrain_jax.assembly.model import COMPUTE_FIELDS, ModelSettings, Policy, load_policy
from posttrain_jax.data import demonstrations
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.sizes import SIZES, sizes
from posttrain_jax.performance.compile import compiled, topology
from posttrain_jax.performance.compile.at_best import program_at_best, step_at_best
from posttrain_jax.performance.compile.program import Program, bytes_per_device
from posttrain_jax.performance.compile.programs_of_a_run import parse_method, programs_of_run
from posttrain_jax.performance.timing import rounded
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

_GIB = 2**30
_PACKAGE = str(pathlib.Path(__file__).resolve().parents[2])


def prove(
  config: ml_collections.ConfigDict,
  *,
  topology_name: str,
  slices: int = 1,
  model: str = "",
  only: Sequence[str] = (),
  answer_length: int = 0,
  say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
  """Compiles a run's programs for a topology.

  Args:
    config: the run's.
    topology_name: such as "v5p:4x4x8".
    slices: number of slices.
    model: name of a public model's sizes; empty: the model that `model.path` names.
    only: names of the programs to compile; empty: all.
    answer_length: tokens of each drawn answer in the counts of work; 0: the cap.
    say: called with a line after each program is compiled.

  Returns:
    The report that `experiments.compile` prints; "refused" has a line for each program that does not fit.

  Raises:
    InputError: if libtpu is not installed, the topology is unknown, the config does not fit the mesh, or `only` names
      a program that the run does not have; or if `answer_length` does not fit the config.
  """
  settings = parse_method(config)
  devices = topology.devices(topology_name, slices=slices)
  policy = policy_of(settings.model, model)
  run = programs_of_run(settings, policy, devices, answer_length=answer_length)
  for name in only:
    if name not in run.programs:
      raise InputError(f"--programs: {name!r}, expected some of {', '.join(run.programs)}")
  memory = topology.memory_gib(devices)
  held = {name: bytes_per_device(array) / _GIB for name, array in run.arrays.items()}
  report: dict[str, Any] = {
    "topology": topology_name,
    "slices": slices,
    "devices": len(devices),
    "mesh": dict(next(iter(run.programs.values())).mesh.shape),
    "parameters": policy.model.num_params,
    "hbm_gib": memory,
    "arrays_gib": {name: rounded(size) for name, size in held.items()},
    "programs": {},
    "flops_per_step": sum(program.calls * program.work.flops for program in run.programs.values()),
    "step_at_best": step_at_best(run.programs.values()),
    "refused": [],
  }
  for name in only or run.programs:
    program = run.programs[name]
    beside = sum(size for array, size in held.items() if array not in (*program.takes, *program.frees))
    found = {"beside_gib": rounded(beside), **compile_program(program), "at_best": program_at_best(program)}
    needed = found.get("peak_gib", found.get("needs_gib"))
    if needed + beside > memory:
      largest = found["largest"] = _largest(program)
      report["refused"].append(
        f"{name} needs {needed:.2f} GiB and other arrays take {beside:.2f}, of {memory:.2f}; "
        f"its largest arrays: {largest}"
      )
    report["programs"][name] = found
    say(f"{name}: {found}")
  return report


def compile_program(program: Program) -> dict[str, Any]:
  """Compiles one program.

  Returns:
    Seconds, calls, FLOPs, and "peak_gib" on a device with the arguments' part of it and the collectives. If the
    compiler refuses the program, "needs_gib" takes the place of the last three.
  """
  facts = {"calls_per_step": program.calls, "flops": program.work.flops}
  start = time.perf_counter()
  try:
    executable = lower(program).compile()
  except jax.errors.JaxRuntimeError as error:
    needed = topology.needed_gib(str(error))
    if needed is None:
      raise
    return {"seconds": round(time.perf_counter() - start, 1), "needs_gib": needed, **facts}
  seconds, analysis = time.perf_counter() - start, executable.memory_analysis()
  collectives = compiled.collectives(compiled.instructions(executable.as_text()))
  return {
    "seconds": round(seconds, 1),
    "peak_gib": rounded(analysis.peak_memory_in_bytes / _GIB),
    "arguments_gib": rounded(analysis.argument_size_in_bytes / _GIB),
    "collectives": compiled.summary(collectives),
    **facts,
  }


def lower(program: Program) -> jax.stages.Lowered:
  """Lowers a program for the devices of its mesh."""
  platform = program.mesh.devices.flat[0].platform
  with jax.set_mesh(program.mesh):
    return program.function.trace(*program.arguments).lower(lowering_platforms=(platform,))


def _largest(program: Program, count: int = 3) -> str:
  """Names the largest arrays that a program makes, with the operations that make them.

  Sizes are those before the arrays are sharded. They come from the jaxpr, as the compiler names no buffers of a program
  that is far too large.
  """
  with jax.set_mesh(program.mesh):
    made = dict(_made(program.function.trace(*program.arguments).jaxpr.jaxpr))
  chosen = sorted(made, key=lambda array: -array.bytes)[:count]
  return ", ".join(f"{array} {array.bytes / _GIB:.1f} GiB ({made[array]})" for array in chosen)


def _made(jaxpr: jax.extend.core.Jaxpr) -> Iterator[tuple[compiled.Array, str]]:
  """Yields each array that a jaxpr makes, loops and functions included, with its operation."""
  for equation in jaxpr.eqns:
    traceback = equation.source_info.traceback
    frames = [frame for frame in traceback.frames if _PACKAGE in frame.file_name] if traceback else []
    line = f" at {pathlib.Path(frames[0].file_name).name}:{frames[0].line_num}" if frames else ""
    for variable in equation.outvars:
      if isinstance(getattr(variable.aval, "dtype", None), np.dtype):  # neither a key nor an effect
        array = compiled.Array(variable.aval.dtype.name, variable.aval.shape)
        yield array, f"{equation.primitive}{line}"
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      yield from _made(inner)


def policy_of(section: ModelSettings, name: str) -> Policy:
  """Returns a config's model without parameters; a public model needs no files.

  Args:
    section: the config's `model`; its path is a public model's name, such as "Qwen2.5-32B", or can be loaded.
    name: of a public model's sizes; takes precedence over the path. Empty: the path decides.
  """
  known = re.sub(r"\W", "_", section.path.lower())
  found = [each for each in SIZES if known.startswith(each)]
  if not name and not found:
    return dataclasses.replace(load_policy(section), params=None)
  model = sizes(name or max(found, key=len))
  compute = {field: section.transformer[field] for field in COMPUTE_FIELDS}
  fields = dataclasses.asdict(model) | compute
  return Policy(parse(TransformerConfig, fields, "model"), tiny_tokenizer(demonstrations.SYMBOLS))
