"""Makes records of evaluated answers, for people to read: some lines of rollouts/step_NNNNNN.jsonl."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from posttrain_jax.data.preferences import Comparison
from posttrain_jax.types import Group

Decode = Callable[[Sequence[int]], str]
MOST = 8  # prompts of each set that are recorded, evenly spread over the set


def sampled_records(sets: Mapping[str, Sequence[Group]], decode: Decode) -> list[dict[str, Any]]:
  """Records what a policy answered.

  Args:
    sets: groups of each evaluation set, judged or not.
    decode: of the policy's tokeniser.

  Returns:
    JSON objects in the form of `rollouts.group_json.rollout_record`, with the verdict "evaluated" and the set's name.
  """
  return [
    _record(name, "evaluated", decode(group.prompt.tokens), group.prompt.row.get("answer"), _samples(group))
    | {"prompt_index": group.prompt.index}
    for name, groups in sets.items()
    for group in _spread(groups)
  ]


def scored_records(
  comparisons: Sequence[Comparison], scores: Sequence[np.ndarray], decode: Decode
) -> list[dict[str, Any]]:
  """Records how a reward model scored the answers of comparisons.

  An answer is right if its score agrees with each comparison that it is part of.

  Args:
    comparisons: held-out ones.
    scores: float [K] for each comparison.
    decode: of the model's tokeniser.

  Returns:
    As `sampled_records`, with the verdict "scored", the people's rank as the component "rank", and the best answer
    first.
  """
  records = []
  for comparison, rewards in _spread(list(zip(comparisons, scores))):
    samples = []
    for i in sorted(range(len(comparison.answers)), key=lambda i, ranks=comparison.ranks: ranks[i] or 0):
      agrees = [rewards[better] > rewards[worse] for better, worse in comparison.beaten() if i in (better, worse)]
      rank = comparison.ranks[i]
      samples.append(
        {
          "text": decode(comparison.answers[i]),
          "length": len(comparison.answers[i]),
          "accuracy": float(all(agrees)) if agrees else None,
          "reward": float(rewards[i]),
          "components": {} if rank is None else {"rank": rank},
          "valid": bool(agrees),
        }
      )
    records.append(_record("heldout", "scored", decode(comparison.prompt), None, samples))
  return records


def answer_lines(groups: Sequence[Group], decode: Decode, extract: Callable[[str], str | None]) -> list[dict[str, Any]]:
  """Lists all answers of an evaluation, one JSON object each, in the prompts' order.

  Args:
    groups: judged ones.
    decode: of the policy's tokeniser.
    extract: a text to its final answer, as the verifier reads it.

  Returns:
    "prompt" (as the model reads it), "problem" (its position), "sample" (the answer's number), "answer" (its text),
    "reference", "extracted", "accuracy", "reward", "tokens" (their number) and "ended_by". Accuracy and reward are None
    without a verdict.
  """
  lines = []
  for group in groups:
    shared = {"prompt": decode(group.prompt.tokens), "problem": group.prompt.index}
    for number, sample in enumerate(_samples(group)):
      line = {"sample": number, "answer": sample["text"], "reference": group.prompt.row.get("answer")}
      line["extracted"] = extract(sample["text"])
      line |= {name: sample[name] if sample["valid"] else None for name in ("accuracy", "reward")}
      lines.append(shared | line | {"tokens": sample["length"], "ended_by": sample["finish_reason"]})
  return lines


def _record(name: str, verdict: str, prompt: str, answer: Any, samples: list) -> dict[str, Any]:
  return {"set": name, "prompt": prompt, "answer": answer, "verdict": verdict, "samples": samples}


def _samples(group: Group) -> list[dict[str, Any]]:
  judged = group.accuracy is not None
  return [
    {
      "text": group.texts[i],
      "length": len(answer.tokens),
      "finish_reason": answer.finish_reason.name.lower(),
      "accuracy": float(group.accuracy[i]) if judged else None,
      "reward": None if group.rewards is None else float(group.rewards[i]),
      "components": {name: float(values[i]) for name, values in group.components.items()},
      "valid": judged and bool(group.valid[i]),
    }
    for i, answer in enumerate(group.answers)
  ]


def _spread(items: Sequence[Any]) -> list[Any]:
  """Chooses at most `MOST` items, evenly spread, the first one included."""
  count = min(MOST, len(items))
  return [items[index * len(items) // count] for index in range(count)]
