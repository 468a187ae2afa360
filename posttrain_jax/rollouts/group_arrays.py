"""Writes groups as bytes, exactly and in little time.

What there is for each token is in arrays, the rest is JSON.

Checkpoints keep carried groups so, runs keep groups for a replay so, and processes exchange groups so. `group_json`
has the form for people.
"""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
import safetensors.numpy

from posttrain_jax.rollouts.group_json import ANSWER_ARRAYS, group_from_json, group_to_json
from posttrain_jax.types import Answer, Group

# "generated" has the marks of the answers that have marks; "prompts" the prompts' tokens; "facts" the JSON text, which
# is an array too because safetensors bounds the size of its header.
_ARRAYS = {**ANSWER_ARRAYS, "generated": np.bool_, "prompts": np.int32}


def pack(groups: Sequence[Group]) -> bytes:
  """Writes groups as bytes: 16 a token, the decoded texts besides."""
  answers = [answer for group in groups for answer in group.answers]
  parts: dict[str, list[np.ndarray]] = {name: [getattr(answer, name) for answer in answers] for name in ANSWER_ARRAYS}
  parts["generated"] = [answer.generated for answer in answers if answer.generated is not None]
  parts["prompts"] = [np.array(group.prompt.tokens, np.int32) for group in groups]
  arrays = {name: np.concatenate([np.zeros((0,), dtype), *parts[name]]) for name, dtype in _ARRAYS.items()}
  facts = {
    "groups": [group_to_json(_without_arrays(group)) for group in groups],
    "lengths": [len(answer.tokens) for answer in answers],
    "marked": [answer.generated is not None for answer in answers],
    "prompts": [len(group.prompt.tokens) for group in groups],
  }
  arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
  return safetensors.numpy.save(arrays)


def unpack(content: bytes) -> list[Group]:
  """Reads the groups that `pack` was given, bit for bit."""
  arrays = safetensors.numpy.load(content)
  facts = json.loads(arrays["facts"].tobytes())
  lengths, marked = facts["lengths"], facts["marked"]
  cuts = {name: lengths for name in ANSWER_ARRAYS} | {
    "generated": [length for length, mark in zip(lengths, marked, strict=True) if mark],
    "prompts": facts["prompts"],
  }
  parts = {name: iter(np.split(arrays[name], np.cumsum(cuts[name], dtype=int)[:-1])) for name in _ARRAYS}
  marks = iter(marked)
  groups = []
  for record in facts["groups"]:
    group = group_from_json(record)
    answers = tuple(
      dataclasses.replace(
        answer,
        **{name: next(parts[name]) for name in ANSWER_ARRAYS},
        generated=next(parts["generated"]) if next(marks) else None,
      )
      for answer in group.answers
    )
    prompt = dataclasses.replace(group.prompt, tokens=tuple(next(parts["prompts"]).tolist()))
    groups.append(dataclasses.replace(group, prompt=prompt, answers=answers))
  return groups


def _without_arrays(group: Group) -> Group:
  """Leaves out of a group what `pack` writes as arrays."""
  return dataclasses.replace(
    group,
    prompt=dataclasses.replace(group.prompt, tokens=()),
    answers=tuple(Answer(*[np.zeros((0,), np.int32)] * 4, answer.finish_reason) for answer in group.answers),
  )
