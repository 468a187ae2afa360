"""Lists the programs of a generative reward model that judges a run, with abstract arguments.

The judge is taken to have the policy's size, and each question and judgement the greatest length.
"""

import dataclasses
import math

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.generative_judge import GenerativeJudgeSettings, Reading, judge_engine
from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.score_reading import TOKENS_PER_BATCH, next_token_logits
from posttrain_jax.models import flops
from posttrain_jax.models.buckets import bucket, rows_per_batch
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.parallel.sharding import batch_sharding, batch_shards
from posttrain_jax.performance.compile.program import Program, RunPrograms
from posttrain_jax.performance.compile.sampling_programs import drawing
from posttrain_jax.performance.counts import Pass, PassKind

_CACHES = "judge_caches"


def with_judge(
  run: RunPrograms, judge: GenerativeJudgeSettings | None, policy: Policy, mesh: Mesh, *, answers: int
) -> RunPrograms:
  """Adds a judge's programs to those of a run.

  The run's own programs free the judge's caches, and the judge's programs free the run's.

  Args:
    run: programs that draw answers, and what else a step calls.
    judge: the config's `judge`; None for none.
    policy: the model, and any tokeniser whose vocabulary fits.
    mesh: of the run.
    answers: answers of a step.
  """
  if judge is None:
    return run
  holder, arrays = "judge", {}
  if judge.self_rewarding:
    holder = "sampler" if "sampler" in run.arrays else "policy"
    params = run.arrays[holder]
  else:
    model, (_, given) = policy.model, abstract_transformer(policy.model)
    make = make_handover(given, num_layers=model.num_layers, dtype=model.compute_dtype, mesh=mesh)
    params = make.eval_shape(given)
    arrays["judge"] = params
  engine = judge_engine(judge, policy, mesh, seed=0)
  length = judge.max_new_tokens
  drawn = drawing(
    engine,
    policy.model,
    params,
    holder,
    mesh,
    prompts=answers,
    answers=judge.votes,
    answer_length=length,
    resumed=0,
  )
  programs = {
    f"judge_{name}": dataclasses.replace(program, takes=(holder, _CACHES), frees=("caches",))
    for name, program in drawn.programs.items()
  }
  if judge.reading == Reading.EXPECTED:
    programs["judge_reading"] = _reading(judge, policy, params, holder, mesh, answers=answers)
  own = {name: dataclasses.replace(program, frees=(*program.frees, _CACHES)) for name, program in run.programs.items()}
  return RunPrograms(own | programs, {**run.arrays, **arrays, _CACHES: drawn.arrays["caches"]})


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
  return Program(next_token_logits, arguments, mesh, calls, work, takes=(holder,), frees=("caches", _CACHES))
