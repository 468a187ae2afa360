"""How several processes share the sampling: each draws and judges answers to its prompts, and then all have all groups.

Which process draws an answer changes none of its random numbers: they depend on seed, prompt, sample and attempt alone.
Of n processes, process i takes prompts i, i + n, ..., and a draw is over when the slowest is. What every process then
has is what one process would have drawn, to the rounding that differs between engines of different width; so
collectors, batches and metrics know nothing of processes.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence

import jax
import numpy as np
import safetensors
import safetensors.numpy

from posttrain_jax.parallel.processes import exchange, several
from posttrain_jax.rollouts.group_json import ANSWER_ARRAYS, group_from_json, group_to_json
from posttrain_jax.sampling.requests import EngineStats
from posttrain_jax.types import Group, Prompt

# Engines run side by side, so a step's decode steps are those of the one that took most.
_LARGEST = ("dispatches", "decode_steps")


def shared(prompts: Sequence[Prompt], make: Callable[[Sequence[Prompt]], list[Group]]) -> list[Group]:
  """What `make` makes of prompts, each process making its share; in the prompts' order, on every process.

  Args:
    prompts: the same on all processes.
    make: one group a prompt, in the prompts' order.
  """
  if not several():
    return make(prompts)
  count, index = jax.process_count(), jax.process_index()
  own = prompts[index::count]
  made = [unpack(sent) for sent in exchange(pack(make(own) if own else []))]
  return [dataclasses.replace(made[i % count][i // count], prompt=prompt) for i, prompt in enumerate(prompts)]


def add_up(stats: EngineStats) -> EngineStats:
  """What the engines of all processes did."""
  if not several():
    return stats
  each = [json.loads(sent) for sent in exchange(json.dumps(dataclasses.asdict(stats)).encode())]
  return EngineStats(**{name: (max if name in _LARGEST else sum)(one[name] for one in each) for name in each[0]})


def pack(groups: Sequence[Group]) -> bytes:
  """Groups as bytes: what is long as arrays, the rest as JSON beside them."""
  answers = [answer for group in groups for answer in group.answers]
  arrays = {
    name: np.concatenate([np.zeros((0,), dtype), *[getattr(answer, name) for answer in answers]])
    for name, dtype in ANSWER_ARRAYS.items()
  }
  empty = {name: np.zeros((0,), dtype) for name, dtype in ANSWER_ARRAYS.items()}
  bare = [
    dataclasses.replace(group, answers=tuple(dataclasses.replace(answer, **empty) for answer in group.answers))
    for group in groups
  ]
  facts = {"groups": [group_to_json(group) for group in bare], "lengths": [len(answer.tokens) for answer in answers]}
  return safetensors.numpy.save(arrays, metadata={"facts": json.dumps(facts)})


def unpack(content: bytes) -> list[Group]:
  """The groups, in the same bits, that `pack` was given."""
  header = int.from_bytes(content[:8], "little")
  facts = json.loads(json.loads(content[8 : 8 + header])["__metadata__"]["facts"])
  ends = np.cumsum(facts["lengths"], dtype=int)[:-1]
  arrays = safetensors.numpy.load(content)
  parts = {name: iter(np.split(arrays[name], ends)) for name in ANSWER_ARRAYS}
  for group in facts["groups"]:
    for answer in group["answers"]:
      answer |= {name: next(each) for name, each in parts.items()}
  return [group_from_json(group) for group in facts["groups"]]
