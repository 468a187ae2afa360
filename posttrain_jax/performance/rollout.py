"""Times the rollout engine: answers of equal length, and answers of unequal length against what waiting would cost."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.performance import roofline
from posttrain_jax.performance.timing import timed
from posttrain_jax.performance.work import Work, sampler_params
from posttrain_jax.sampling.draw import SamplingConfig, draw
from posttrain_jax.sampling.engine import Engine


def rollout(work: Work, profile: str | None = None) -> dict[str, object]:
  """Answers to P prompts, G each; all of the same length unless `mean_length` says otherwise.

  Returns:
    Generated tokens a second, in all and of the limit that `roofline` computes for the decode step; seconds of a decode
    step and the draw's part of it; where lengths differ also what the same engine gives when it waits for the
    longest answer of every S answers before it begins others.
  """
  engine = make_engine(work)
  counts = []

  def generate(run: int) -> None:
    engine.take_stats()
    engine.generate(work.draw_prompts(run), work.group)
    counts.append(engine.take_stats())

  found = timed(generate, work.runs, profile)
  stats = counts[1:]
  tokens = float(np.median([each.generated_tokens for each in stats]))
  throughput = float(np.median([each.generated_tokens / s for each, s in zip(stats, found.later)]))
  least = _least_step_seconds(work)
  step = float(np.median([s / each.decode_steps for each, s in zip(stats, found.later)]))
  record = {
    "tokens_per_second": round(throughput, 1),
    "tokens": round(tokens),
    "limit_tokens_per_second": round(work.slots / least, 1),
    "share_of_limit": round(throughput * least / work.slots, 6),
    "decode_step_seconds": round(step, 5),
    "draw_share_of_step": round(_draw_seconds(work, engine.sampling) / step, 4),
    "idle_share": round(float(np.median([each.idle_slot_steps / each.slot_steps for each in stats])), 4),
    **found.record(),
  }
  if work.mean_length:
    record |= _waiting(work, engine, throughput)
  return record


def make_engine(work: Work) -> Engine:
  """An engine with random weights loaded, on all devices as data shards."""
  mesh = make_mesh({"data": -1})
  engine = Engine(
    work.model,
    SamplingConfig(temperature=work.temperature, stop_ids=work.stop_ids),
    seed=work.seed,
    slots=work.slots,
    max_prompt_length=work.prompt_length,
    max_new_tokens=work.new_tokens,
    steps_per_dispatch=work.steps_per_dispatch,
    prefill_width=min(work.prompts, 16),
    share=work.group,
    mesh=mesh,
  )
  engine.load(sampler_params(work, mesh), version=0)
  return engine


def _waiting(work: Work, engine: Engine, throughput: float) -> dict[str, float]:
  """The same prompts in batches of as many as fill the slots, each begun when the one before it has ended."""
  at_once = max(1, work.slots // work.group)

  prompts = work.draw_prompts()
  engine.take_stats()
  start = time.perf_counter()
  for first in range(0, len(prompts), at_once):  # once: the programs are compiled by now
    engine.generate(prompts[first : first + at_once], work.group)
  waiting = engine.take_stats().generated_tokens / (time.perf_counter() - start)
  return {"waiting_tokens_per_second": round(waiting, 1), "speedup_over_waiting": round(throughput / waiting, 3)}


def _least_step_seconds(work: Work) -> float:
  products = roofline.decode_products(work.model, work.slots)
  arithmetic = roofline.limit_seconds(products, work.model.compute_dtype)
  read = roofline.decode_bytes(work.model, work.slots, work.prompt_length + work.new_tokens)
  return max(arithmetic, read / roofline.bytes_per_second())


def _draw_seconds(work: Work, sampling: SamplingConfig) -> float:
  """Of one draw in all slots, from logits that are in memory as a tied table makes them."""
  logits_VxS = jax.random.normal(jax.random.key(work.seed), (work.model.vocab_size, work.slots), jnp.float32)
  uniforms = jax.random.uniform(jax.random.key(work.seed + 1), (work.slots, 2))
  program = jax.jit(lambda logits_VxS, uniforms: draw(logits_VxS.T, uniforms, sampling))
  return timed(lambda run: program(logits_VxS, uniforms), 20).median
