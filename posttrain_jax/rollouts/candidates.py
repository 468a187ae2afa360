"""Draws K judged answers to each prompt, in rounds that are kept on disk.

So a preempted collection goes on after its last finished round.
"""

import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from posttrain_jax import atomic_files
from posttrain_jax.data.chat import Message
from posttrain_jax.data.prompts import PROMPT_FIELDS, PromptFormat, own_prompt
from posttrain_jax.data.rejection import Candidates
from posttrain_jax.runs.console import Console
from posttrain_jax.runs.preemption import Preempted, Preemption
from posttrain_jax.types import Group, Judge, Prompt

Generate = Callable[[Sequence[Prompt], int], list[Group]]
# What rows of demonstrations or preferences are read by: a prompt's own columns of these names would be taken for them.
_READ = {*PROMPT_FIELDS, "completion", "score", "chosen", "rejected", "edited", "answers", "ranks", "strength"}


def sample_candidates(
  prompts: Sequence[Prompt],
  generate: Generate,
  judge: Judge,
  *,
  samples: int,
  round_size: int,
  prompt_format: PromptFormat,
  directory: pathlib.Path,
  preemption: Preemption,
) -> tuple[list[Candidates], dict[str, int]]:
  """Draws and judges answers, or reads those of an earlier call with the same arguments.

  An answer that ran into the cap or says nothing has no verdict: it would teach to end there.

  Args:
    prompts: what is asked.
    generate: draws answers to prompts (`Engine.generate`).
    judge: fills in rewards and valid.
    samples: K.
    round_size: prompts that are answered and judged at a time.
    prompt_format: how the prompts were rendered; candidates have their prompts in it, as text or messages.
    directory: an existing one, for the rounds.
    preemption: whether SIGTERM arrived.

  Returns:
    (candidates in the order of the prompts; counts of answers: "truncated" by the cap and "empty"; "tokens_generated",
    those of all answers).

  Raises:
    Preempted: after SIGTERM and a finished round.
  """
  rounds = [prompts[start : start + round_size] for start in range(0, len(prompts), round_size)]
  found, counts = [], {"truncated": 0, "empty": 0, "tokens_generated": 0}
  with Console("sampling", len(rounds), {"score": "score"}) as console:
    for number, asked in enumerate(rounds):
      file = directory / f"{number:06d}.jsonl"
      if not file.exists():
        if preemption.requested:
          raise Preempted(f"{directory}: {number} of {len(rounds)} rounds are done")
        groups = judge(generate(asked, samples))
        atomic_files.write_text(file, "".join(json.dumps(_to_json(group, prompt_format)) + "\n" for group in groups))
      # Read back also what was just written, so that a collection that went on is the same as one that was never ended.
      lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
      counts = {name: count + sum(line.pop(name, 0) for line in lines) for name, count in counts.items()}
      latest = [Candidates(**{**line, "scores": [_number(score) for score in line["scores"]]}) for line in lines]
      scores = [score for each in latest for score in each.scores if not math.isnan(score)]
      console.update(number + 1, {"score": sum(scores) / len(scores)} if scores else {})
      found += latest
  return found, counts


def asked_text(row: Mapping[str, Any], prompt_format: PromptFormat) -> str | list[Message]:
  """Returns what `data.prompts.make_prompts` renders: a row's prompt in the template, after the system message."""
  return prompt_format.ask(own_prompt(row))


def best_over_worst(candidates: Sequence[Candidates]) -> list[dict[str, Any]]:
  """Returns rows of "prompt", "chosen" and "rejected".

  Prompts whose best and worst answers have the same score are left out.

  Answers without a verdict are left out; of equal scores the answer that was drawn first counts. Where both say the
  same there is no pair.
  """
  rows = []
  for each in candidates:
    valid = [(score, answer) for score, answer in zip(each.scores, each.answers) if not math.isnan(score)]
    if not valid:
      continue
    (high, best), (low, worst) = max(valid, key=lambda pair: pair[0]), min(valid, key=lambda pair: pair[0])
    if high > low and best.strip() != worst.strip():
      rows.append({**each.row, "prompt": each.prompt, "chosen": best, "rejected": worst})
  return rows


def _to_json(group: Group, prompt_format: PromptFormat) -> dict[str, Any]:
  empty = np.array([not text.strip() for text in group.texts])
  usable = group.valid & ~group.truncated & ~empty
  return {
    "prompt": asked_text(group.prompt.row, prompt_format),
    "answers": list(group.texts),
    "scores": [float(score) if use else None for score, use in zip(group.rewards, usable)],
    "row": {name: value for name, value in group.prompt.row.items() if name not in _READ},
    "truncated": int(group.truncated.sum()),
    "empty": int((empty & ~group.truncated).sum()),
    "tokens_generated": int(group.lengths.sum()),
  }


def _number(score: float | None) -> float:
  return math.nan if score is None else score
