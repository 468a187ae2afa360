"""Writes groups as JSON: exactly as a part of `group_arrays`, readably for the records under rollouts/."""

from collections.abc import Callable
from typing import Any

import numpy as np

from posttrain_jax.types import Answer, FinishReason, Group, Prompt

ANSWER_ARRAYS = {
  "tokens": np.int32,
  "sampler_logprobs": np.float32,
  "drawn_logprobs": np.float32,
  "versions": np.int32,
}
_GROUP_ARRAYS = {"accuracy": np.float32, "rewards": np.float32, "valid": np.bool_}


def group_to_json(group: Group) -> dict[str, Any]:
  """Returns a group as a JSON object; `group_from_json` gives the same bits back.

  The group may be judged or not.
  """
  prompt = group.prompt
  verdicts = {name: getattr(group, name) for name in _GROUP_ARRAYS}
  return {
    "prompt": {
      "index": prompt.index,
      "tokens": list(prompt.tokens),
      "row": dict(prompt.row),
      "attempt": prompt.attempt,
    },
    "answers": [
      {name: getattr(answer, name).tolist() for name in ANSWER_ARRAYS}
      | {
        "finish_reason": int(answer.finish_reason),
        "generated": None if answer.generated is None else answer.generated.tolist(),
      }
      for answer in group.answers
    ],
    "texts": list(group.texts),
    "components": {name: values.tolist() for name, values in group.components.items()},
    **{name: None if values is None else values.tolist() for name, values in verdicts.items()},
  }


def group_from_json(record: dict[str, Any]) -> Group:
  """Returns the group that `group_to_json` wrote."""
  prompt = record["prompt"]
  answers = []
  for answer in record["answers"]:
    arrays = {name: np.array(answer[name], dtype) for name, dtype in ANSWER_ARRAYS.items()}
    generated = None if answer["generated"] is None else np.array(answer["generated"], bool)
    answers.append(Answer(**arrays, finish_reason=FinishReason(answer["finish_reason"]), generated=generated))
  return Group(
    prompt=Prompt(prompt["index"], tuple(prompt["tokens"]), prompt["row"], prompt["attempt"]),
    answers=tuple(answers),
    texts=tuple(record["texts"]),
    components={name: np.array(values, np.float32) for name, values in record["components"].items()},
    **{name: None if record[name] is None else np.array(record[name], dtype) for name, dtype in _GROUP_ARRAYS.items()},
  )


def rollout_record(
  step: int,
  group: Group,
  outcome: str,
  advantages: np.ndarray | None,
  prompt_text: str,
  find_answer: Callable[[str], str | None] | None = None,
) -> dict[str, Any]:
  """Returns a group for people to read: one line of rollouts/step_NNNNNN.jsonl.

  Args:
    step: the step it was judged in.
    group: the judged group.
    outcome: a `dynamic_sampling.Outcome`; written as `verdict`.
    advantages: float32 [G] if the group was trained on, else None.
    prompt_text: the decoded prompt.
    find_answer: text to its final answer, as the verifier reads it; None leaves `extracted` out.
  """
  samples = [
    {
      "text": group.texts[i],
      "length": len(answer.tokens),
      "finish_reason": answer.finish_reason.name.lower(),
      "accuracy": float(group.accuracy[i]),
      "reward": float(group.rewards[i]),
      "components": {name: float(values[i]) for name, values in group.components.items()},
      "valid": bool(group.valid[i]),
      "advantage": None if advantages is None else float(advantages[i]),
    }
    | ({} if find_answer is None else {"extracted": find_answer(group.texts[i])})
    for i, answer in enumerate(group.answers)
  ]
  return {
    "step": step,
    "prompt": prompt_text,
    "prompt_index": group.prompt.index,
    "answer": group.prompt.row.get("answer"),
    "accepted": outcome == "trained",
    "verdict": outcome,
    "samples": samples,
  }
