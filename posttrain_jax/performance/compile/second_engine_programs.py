"""Lists the programs of a second engine, which takes turns with a run's own.

It is a judge's (a generative reward model) or that of a model which is attacked. Arguments are abstract. Each model is
taken to have the policy's size, and each text that it reads or draws the greatest length. A judge of an attacked
model's answers is not among them: its programs are as wide as what it reads, which no config bounds.
"""

import dataclasses
import math

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.attack_target import TargetSettings, target_engine
from posttrain_jax.assembly.generative_judge import GenerativeJudgeSettings, Reading, judge_engine
from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.score_reading import TOKENS_PER_BATCH, next_token_logits
from posttrain_jax.models import flops
from posttrain_jax.models.buckets import bucket, rows_per_batch
from posttrain_jax.parallel.sharding import batch_sharding, batch_shards
from posttrain_jax.performance.compile.program import Program, RunPrograms
from posttrain_jax.performance.compile.sampling_programs import abstract_sampler, drawing
from posttrain_jax.performance.counts import Pass, PassKind
from posttrain_jax.types import InputError

_TARGET, _JUDGE = "target", "judge"


def with_target(
  run: RunPrograms, target: TargetSettings | None, policy: Policy, mesh: Mesh, *, answers: int
) -> RunPrograms:
  """Adds the programs of a model that is attacked to those of a run.

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
  drawn = drawing(
    target_engine(target, policy, mesh, seed=0),
    policy.model,
    abstract_sampler(policy.model, mesh),
    _TARGET,
    mesh,
    prompts=answers,
    answers=1,
    answer_length=target.max_new_tokens,
    resumed=0,
  )
  return _in_turns(run, _TARGET, _TARGET, drawn)


def with_judge(
  run: RunPrograms, judge: GenerativeJudgeSettings | None, policy: Policy, mesh: Mesh, *, answers: int
) -> RunPrograms:
  """Adds a judge's programs to those of a run.

  Args:
    run: programs that draw answers, and what else a step calls.
    judge: the config's `judge`; None for none.
    policy: the model, and any tokeniser whose vocabulary fits.
    mesh: of the run.
    answers: answers of a step.
  """
  if judge is None:
    return run
  holder, params = _JUDGE, abstract_sampler(policy.model, mesh)
  if judge.self_rewarding:
    holder = "sampler" if "sampler" in run.arrays else "policy"
    params = run.arrays[holder]
  drawn = drawing(
    judge_engine(judge, policy, mesh, seed=0),
    policy.model,
    params,
    holder,
    mesh,
    prompts=answers,
    answers=judge.votes,
    answer_length=judge.max_new_tokens,
    resumed=0,
  )
  judged = _in_turns(run, _JUDGE, holder, drawn)
  if judge.reading == Reading.EXPECTED:
    reading = _reading(judge, policy, params, holder, mesh, answers=answers)
    return dataclasses.replace(judged, programs={**judged.programs, "judge_reading": reading})
  return judged


def _in_turns(run: RunPrograms, name: str, holder: str, drawn: RunPrograms) -> RunPrograms:
  """Adds an engine's programs; each engine's free the caches of the other.

  Args:
    run: the run's own programs.
    name: begins the names of what is added.
    holder: the added engine's parameters among the arrays.
    drawn: the added engine's programs and arrays.
  """
  caches = f"{name}_caches"
  own = {each: dataclasses.replace(program, frees=(*program.frees, caches)) for each, program in run.programs.items()}
  added = {
    f"{name}_{each}": dataclasses.replace(program, takes=(holder, caches), frees=("caches",))
    for each, program in drawn.programs.items()
  }
  return RunPrograms(own | added, {**run.arrays, holder: drawn.arrays[holder], caches: drawn.arrays["caches"]})


def _reading(
  judge: GenerativeJudgeSettings, policy: Policy, params: nnx.State, holder: str, mesh: Mesh, *, answers: int
) -> Program:
  length = judge.max_prompt_length + judge.max_new_tokens
  width = bucket(length)
  rows = rows_per_batch(width, tokens_per_batch=TOKENS_PER_BATCH, shards=batch_shards(mesh))
  model, layout = dataclasses.replace(policy.model, stacked=False), batch_sharding(mesh)
  given = [jax.ShapeDtypeStruct(shape, np.int32, sharding=layout) for shape in ((rows, width), (rows,))]
  scores = jax.ShapeDtypeStruct((judge.high - judge.low + 1,), np.int32)
  work = Pass(model, PassKind.FORWARD, tokens=rows * length, pairs=rows * flops.causal(length), logits=0)
  calls = math.ceil(answers * judge.votes / rows)
  arguments = (model, params, *given, scores)
  return Program(next_token_logits, arguments, mesh, calls, work, takes=(holder,), frees=("caches", "judge_caches"))
