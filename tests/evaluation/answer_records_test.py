import numpy as np

from posttrain_jax.data.preferences import Comparison
from posttrain_jax.evaluation import answer_records
from posttrain_jax.types import Answer, FinishReason, Group, Prompt


def decode(tokens):
  return " ".join(map(str, tokens))


def group(index, **judged):
  floats = np.zeros(2, np.float32)
  answer = Answer(np.array([7, 8], np.int32), floats, floats, np.zeros(2, np.int32), FinishReason.LENGTH)
  return Group(Prompt(index, (index, 1), {"answer": "56"}), (answer,), texts=("7 8",), **judged)


def test_records_of_a_set_are_spread_over_it():
  judged = {"accuracy": np.ones(1, np.float32), "rewards": np.full(1, 0.5, np.float32), "valid": np.ones(1, bool)}
  sets = {"heldout": [group(i, **judged, components={"c": np.ones(1)}) for i in range(24)], "other": [group(3)]}
  *records, other = answer_records.sampled_records(sets, decode)
  assert [record["prompt_index"] for record in records] == [0, 3, 6, 9, 12, 15, 18, 21]
  assert records[1] == {
    "set": "heldout",
    "prompt": "3 1",
    "prompt_index": 3,
    "answer": "56",
    "verdict": "evaluated",
    "samples": [
      {
        "text": "7 8",
        "length": 2,
        "finish_reason": "length",
        "accuracy": 1.0,
        "reward": 0.5,
        "components": {"c": 1.0},
        "valid": True,
      }
    ],
  }
  (sample,) = other["samples"]
  assert other["set"] == "other" and sample["accuracy"] is None and not sample["valid"]


def test_scored_answers_are_right_if_all_comparisons_agree():
  answers = tuple(np.array([i], np.int32) for i in range(4))
  # Best first: answer 2, then 0 and 1, which tie; 3 was not judged. Its score says nothing.
  comparison = Comparison((5,), answers, (2, 2, 1, None))
  (record,) = answer_records.scored_records([comparison], [np.array([0.5, -1.0, 0.25, 9.0])], decode)
  assert (record["verdict"], record["prompt"]) == ("scored", "5")
  found = {sample["text"]: (sample["accuracy"], sample["components"]) for sample in record["samples"]}
  assert found == {"2": (0.0, {"rank": 1}), "0": (0.0, {"rank": 2}), "1": (1.0, {"rank": 2}), "3": (None, {})}
  assert [sample["text"] for sample in record["samples"] if sample["valid"]] == ["2", "0", "1"]
