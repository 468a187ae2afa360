"""Times the rollout engine on answers of equal and of unequal length."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.performance import roofline
from posttrain_jax.performance.timing import timed
from posttrain_jax.performance.work import Work, random_sampler_params
from posttrain_jax.sampling.draw import SamplingConfig, draw
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.sizes import Sizes


def rollout(work: Work, profile: str | None = None) -> dict[str, object]:
  """Times the generation of G answers to each of P prompts.

  All answers have the same length unless `work.mean_length` is set.

  Args:
    work: what is timed.
    profile: directory for a trace of the last rollout; None for no trace.

  Returns:
    Generated tokens a second, and their share of the limit that `roofline` computes for the decode step. Seconds of a
    decode step, and the share of it that drawing takes. The size of the caches; the most live tokens as a share of the
    tokens for which the pages at the peak have room (`live_cache_share`). If lengths differ, also the tokens a second
    of the same engine when it waits for the longest of S answers (one for each slot) before it begins the next S.
  """
  engine = loaded_engine(work)
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
    "cache_gib": round(engine.cache_bytes / 2**30, 4),
    "live_cache_share": round(float(np.median([each.most_live_tokens / each.most_paged_tokens for each in stats])), 4),
    "idle_share": round(float(np.median([each.idle_slot_steps / each.slot_steps for each in stats])), 4),
    **found.record(),
  }
  if work.mean_length:
    record |= _waiting(work, engine, throughput)
  return record


def loaded_engine(work: Work) -> Engine:
  """Makes an engine with random weights; its slots are sharded over all devices."""
  mesh = make_mesh({"data": -1})
  engine = Engine(
    work.model,
    SamplingConfig(temperature=work.temperature, stop_ids=work.stop_ids),
    Sizes(
      slots=work.slots,
      max_prompt_length=work.prompt_length,
      max_new_tokens=work.new_tokens,
      steps_per_dispatch=work.steps_per_dispatch,
      share=work.group,
    ),
    seed=work.seed,
    limit_of=work.limit_of if work.clip_length else None,
    mesh=mesh,
  )
  engine.load(random_sampler_params(work, mesh), version=0)
  return engine


def _waiting(work: Work, engine: Engine, throughput: float) -> dict[str, float]:
  """Times the same prompts in batches that fill the slots, one batch after the other."""
  at_once = max(1, work.slots // work.group)

  prompts = work.draw_prompts()
  engine.take_stats()
  start = time.perf_counter()
  for first in range(0, len(prompts), at_once):  # no warm-up call: the programs are already compiled
    engine.generate(prompts[first : first + at_once], work.group)
  waiting = engine.take_stats().generated_tokens / (time.perf_counter() - start)
  return {"waiting_tokens_per_second": round(waiting, 1), "speedup_over_waiting": round(throughput / waiting, 3)}


def _least_step_seconds(work: Work) -> float:
  products = roofline.decode_products(work.model, work.slots)
  arithmetic = roofline.limit_seconds(products, work.model.compute_dtype)
  read = roofline.decode_bytes(work.model, work.slots, work.prompt_length + work.new_tokens)
  return max(arithmetic, read / roofline.bytes_per_second())


def _draw_seconds(work: Work, sampling: SamplingConfig) -> float:
  """Times one draw in all slots, from logits in a tied table's layout."""
  logits_VxS = jax.random.normal(jax.random.key(work.seed), (work.model.vocab_size, work.slots), jnp.float32)
  uniforms = jax.random.uniform(jax.random.key(work.seed + 1), (work.slots, 2))
  program = jax.jit(lambda logits_VxS, uniforms: draw(logits_VxS.T, uniforms, sampling))
  return timed(lambda run: program(logits_VxS, uniforms), 20).median
