"""Lists the programs of a model that a run attacks, with abstract arguments.

It is taken to have the policy's size, and each attack and answer the greatest length. A judge of its answers is not
among them: its programs are as wide as what it reads, which no config bounds.
"""

import dataclasses

from jax.sharding import Mesh

from posttrain_jax.assembly.attack_target import TargetSettings, target_engine
from posttrain_jax.assembly.model import Policy
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.performance.compile.program import RunPrograms
from posttrain_jax.performance.compile.sampling_programs import drawing
from posttrain_jax.types import InputError

_TARGET, _CACHES = "target", "target_caches"


def with_target(
  run: RunPrograms, target: TargetSettings | None, policy: Policy, mesh: Mesh, *, answers: int
) -> RunPrograms:
  """Adds a target's programs to those of a run.

  The run's own programs free the target's caches, and the target's programs free the run's.

  Args:
    run: programs that draw answers, and what else a step calls.
    target: the config's `target`; None for none.
    policy: the model, and any tokeniser whose vocabulary fits.
    mesh: of the run.
    answers: answers of a step; each is an attack.

  Raises:
    InputError: if a judge is paid.
  """
  if target is None:
    return run
  if target.judge is not None:
    raise InputError("target.judge: its programs are not among those that are compiled, expected none")
  model, (_, given) = policy.model, abstract_transformer(policy.model)
  params = make_handover(given, num_layers=model.num_layers, dtype=model.compute_dtype, mesh=mesh).eval_shape(given)
  drawn = drawing(
    target_engine(target, policy, mesh, seed=0),
    model,
    params,
    _TARGET,
    mesh,
    prompts=answers,
    answers=1,
    answer_length=target.max_new_tokens,
    resumed=0,
  )
  programs = {
    f"target_{name}": dataclasses.replace(program, takes=(_TARGET, _CACHES), frees=("caches",))
    for name, program in drawn.programs.items()
  }
  own = {name: dataclasses.replace(program, frees=(*program.frees, _CACHES)) for name, program in run.programs.items()}
  return RunPrograms(own | programs, {**run.arrays, _TARGET: params, _CACHES: drawn.arrays["caches"]})
