"""Shares the sampling among processes, and gives all groups to every process.

Of n processes, process i draws and judges the answers to prompts i, i + n, ...; all wait for the slowest. An answer's
random numbers depend on seed, prompt, sample and attempt alone, not on the process that draws it. So every process
gets the groups that one process would have drawn, up to the rounding by which engines of different width differ.
Collectors, batches and metrics therefore need not know about processes.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence

import jax

from posttrain_jax.parallel.processes import exchange, several
from posttrain_jax.rollouts.group_arrays import pack, unpack
from posttrain_jax.sampling.requests import EngineStats
from posttrain_jax.types import Group, Prompt

# Engines run at the same time, so a step takes as many decode steps as the engine with the most.
_LARGEST = ("dispatches", "decode_steps")


def shared(prompts: Sequence[Prompt], make: Callable[[Sequence[Prompt]], list[Group]]) -> list[Group]:
  """Makes one group for each prompt, each process its share of them.

  Args:
    prompts: the same on all processes.
    make: returns one group for each prompt, in the prompts' order.

  Returns:
    The groups of all prompts, in the prompts' order, on every process.
  """
  if not several():
    return make(prompts)
  count, index = jax.process_count(), jax.process_index()
  own = prompts[index::count]
  made = [unpack(sent) for sent in exchange(pack(make(own) if own else []))]
  return [dataclasses.replace(made[i % count][i // count], prompt=prompt) for i, prompt in enumerate(prompts)]


def add_up(stats: EngineStats) -> EngineStats:
  """Adds up the counts of all processes' engines."""
  if not several():
    return stats
  each = [json.loads(sent) for sent in exchange(json.dumps(dataclasses.asdict(stats)).encode())]
  return EngineStats(**{name: (max if name in _LARGEST else sum)(one[name] for one in each) for name in each[0]})
