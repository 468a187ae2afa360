import json

from posttrain_jax.reports.samples import LONGEST_TEXT, marks, sampled_steps
from posttrain_jax.types import FinishReason


def group(index, verdict, **sample):
  sample = {"text": "4", "length": 1, "finish_reason": "eos", "accuracy": 1.0, "reward": 1.2} | sample
  return {"prompt": "2 + 2?", "prompt_index": index, "answer": 4, "verdict": verdict, "samples": [sample]}


def write(folder, step, *lines):
  text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
  (folder / f"step_{step:06d}.jsonl").write_text(text + "\n")


def test_the_first_the_middle_and_the_last_step(tmp_path):
  for step in (1, 2, 3, 5, 8):
    write(tmp_path, step, group(0, "trained"))
  assert [step for step, _ in sampled_steps(tmp_path, [])] == [1, 3, 8]
  assert sampled_steps(tmp_path / "absent", []) == []


def test_two_trained_groups_then_one_of_each_dropped_kind(tmp_path):
  verdicts = ["invalid", "trained", "carried", "all_wrong", "trained", "trained", "all_right", "all_right"]
  # Reading stops when every kind is complete, so the last line is not looked at.
  write(tmp_path, 1, *(group(i, verdict) for i, verdict in enumerate(verdicts)), "not json")
  notices = []
  ((_, groups),) = sampled_steps(tmp_path, notices)
  found = [(each["verdict"], each["prompt_index"]) for each in groups]
  assert found == [("trained", 1), ("trained", 4), ("all_right", 6), ("all_wrong", 3), ("invalid", 0)]
  assert notices == []


def test_a_line_that_is_no_record_is_said(tmp_path):
  write(tmp_path, 4, "[]", group(0, "trained"))
  notices = []
  assert len(sampled_steps(tmp_path, notices)) == 1
  assert notices == ["rollouts/step_000004.jsonl, line 1 is no record of a group: it is left out."]


def test_what_is_shown_of_an_answer(tmp_path):
  right = group(0, "trained", components={"correct": 1.0}, advantage=0.5, finish_reason=int(FinishReason.LENGTH))
  wrong = group(1, "trained", accuracy=0.5)  # more than one half is right
  write(tmp_path, 1, right, wrong, group(2, "invalid", valid=False), group(3, "all_wrong", accuracy=None))
  ((_, (first, second, without, invalid)),) = sampled_steps(tmp_path, [])
  assert (first["right"], first["valid"], first["reference"], first["components"]) == (1, 1, "4", ["correct"])
  (sample,) = first["samples"]
  assert sample == {
    "text": "4",
    "extracted": None,
    "length": 1,
    "finish_reason": "length",
    "right": True,
    "reward": 1.2,
    "components": {"correct": 1.0},
    "advantage": 0.5,
  }
  assert (second["right"], second["valid"]) == (0, 1)
  for each in (without, invalid):
    assert each["valid"] == 0 and each["samples"][0]["right"] is None and each["samples"][0]["reward"] is None


def test_records_without_a_verdict_are_told_by_accepted(tmp_path):
  accepted, dropped = ({"samples": [], "prompt_index": i, "accepted": i == 0} for i in range(2))
  write(tmp_path, 1, accepted, dropped)
  ((_, (found,)),) = sampled_steps(tmp_path, [])
  assert (found["verdict"], found["prompt_index"]) == ("trained", 0)


def test_a_long_text_keeps_its_two_ends(tmp_path):
  write(tmp_path, 1, group(0, "trained", text="a" + "x" * LONGEST_TEXT + "bc"))
  ((_, (found,)),) = sampled_steps(tmp_path, [])
  text = found["samples"][0]["text"]
  half = LONGEST_TEXT // 2 - 1
  assert text == "a" + "x" * half + "\n\n[… 3 characters left out …]\n\n" + "x" * (half - 1) + "bc"


def test_three_evaluated_groups_of_each_set(tmp_path):
  lines = [group(i, "evaluated") | {"set": name} for name in ("easy", "hard") for i in range(5)]
  write(tmp_path, 10, *lines)
  steps = sampled_steps(tmp_path, [])
  ((_, groups),) = steps
  assert [(each["set"], each["prompt_index"]) for each in groups] == [
    *(("easy", 0), ("easy", 1), ("easy", 2), ("hard", 0), ("hard", 1), ("hard", 2))
  ]
  assert not groups[0]["is_trained"] and marks(steps) == "✓ right, ✗ wrong, ? no verdict."


def test_scored_comparisons_have_no_reference(tmp_path):
  write(tmp_path, 10, group(0, "scored") | {"set": "heldout", "answer": None})
  steps = sampled_steps(tmp_path, [])
  ((_, (found,)),) = steps
  assert found["reference"] is None and marks(steps).startswith("✓ the reward agrees")
