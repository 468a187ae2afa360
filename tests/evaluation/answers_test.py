import dataclasses
import re

import numpy as np
import pytest

from posttrain_jax.evaluation import answers
from posttrain_jax.types import Answer, FinishReason, Group, InputError, Prompt

TEXTS = {
  0: ["=4", "=4.0", "=04", "=5"],  # the same number in three spellings outvotes the 5
  1: ["=7", "=8", "none", "none"],
  2: ["crash", "=9", "=9", "=1"],
  3: ["crash"] * 4,
}
REFERENCE = {0: "4", 1: "7", 2: "9", 3: "1"}
DIFFICULTY = {0: 1, 1: 2, 2: 2}  # row 3 has none


def prompts():
  rows = [{"answer": REFERENCE[i], **({"difficulty": DIFFICULTY[i]} if i in DIFFICULTY else {})} for i in range(4)]
  return [Prompt(index=i, tokens=(1,), row=row) for i, row in enumerate(rows)]


def generate(asked, group_size):
  """Draws answers that spell their place.

  Answer j of prompt i has j + 1 tokens that spell (i, j). The last one of each group is cut off.
  """
  groups = []
  for prompt in asked:
    drawn = []
    for j in range(group_size):
      tokens = np.array([prompt.index * 10 + j] * (j + 1), np.int32)
      logprobs = np.zeros(len(tokens), np.float32)
      reason = FinishReason.LENGTH if j == 3 else FinishReason.EOS
      drawn.append(Answer(tokens, logprobs, logprobs, np.zeros(len(tokens), np.int32), reason))
    groups.append(Group(prompt=prompt, answers=tuple(drawn)))
  return groups


def extract(text):
  match = re.search(r"=(.*)", text)
  return match[1] if match else None


def judge(groups):
  judged = []
  for group in groups:
    group = dataclasses.replace(
      group, texts=tuple(TEXTS[answer.tokens[0] // 10][answer.tokens[0] % 10] for answer in group.answers)
    )
    reference = float(group.prompt.row["answer"])
    valid = np.array([text != "crash" for text in group.texts])
    found = [extract(text) for text in group.texts]
    accuracy = np.array([answer is not None and float(answer) == reference for answer in found], np.float32)
    judged.append(dataclasses.replace(group, accuracy=accuracy, rewards=accuracy, valid=valid))
  return judged


def run(**options):
  return answers.evaluate(generate, judge, prompts(), 4, extract=extract, **options)


def test_metrics_by_hand():
  found, groups = run()
  # Per problem: 3/4, 1/4, 2/3 (one invalid), none valid.
  np.testing.assert_allclose(found["avg@4"], (3 / 4 + 1 / 4 + 2 / 3) / 3, rtol=1e-12)
  np.testing.assert_allclose(found["pass@1"], found["avg@4"], rtol=1e-12)
  # pass@2: 1; 1 − C(3,2)/C(4,2) = 1/2; 1 of 3 wrong, so 1. pass@4 exists for the two problems with four verdicts.
  np.testing.assert_allclose(found["pass@2"], (1 + 0.5 + 1) / 3, rtol=1e-12)
  np.testing.assert_allclose(found["pass@4"], 1.0)
  # maj@4: 4 wins; two samples without an answer win; 9 wins.
  np.testing.assert_allclose(found["maj@4"], (1 + 0 + 1) / 3, rtol=1e-12)
  assert found["invalid"] == 5 and found["problems"] == 3
  assert found["length"] == 2.5 and found["truncated"] == 0.25
  assert found["no_answer"] == 7 / 16  # two "none", five "crash"
  assert [group.texts for group in groups] == [tuple(TEXTS[i]) for i in range(4)]


def test_accuracy_by_difficulty_where_rows_have_one():
  found, _ = run()
  np.testing.assert_allclose(found["difficulty/1/avg@4"], 3 / 4)
  np.testing.assert_allclose(found["difficulty/2/avg@4"], (1 / 4 + 2 / 3) / 2, rtol=1e-12)
  assert {name for name in found if name.startswith("difficulty")} == {
    f"difficulty/{level}/avg@4{end}" for level in (1, 2) for end in ("", "_low", "_high")
  }


def test_intervals_contain_their_means_and_repeat():
  found, _ = run(seed=5)
  for name in ("avg@4", "maj@4", "pass@1", "pass@2", "pass@4"):
    assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
  assert found["avg@4_low"] < found["avg@4"] < found["avg@4_high"]
  assert run(seed=5)[0] == found


def test_greedy_is_judged_from_its_own_answers():
  asked = []

  def greedy(which, group_size):
    asked.append(group_size)
    return generate(which, group_size)

  found, _ = run(greedy=greedy)
  assert asked == [1]
  np.testing.assert_allclose(found["greedy"], 1.0)  # the first answers of 0 and 1; those of 2 and 3 are invalid
  assert found["invalid"] == 5 + 2
  assert "greedy" not in run()[0]


@pytest.mark.parametrize("samples, expected", [(1, [1]), (2, [1, 2]), (4, [1, 2, 4]), (3, [1, 2, 3])])
def test_pass_at_powers_of_two_up_to_samples(samples, expected):
  found, _ = answers.evaluate(generate, judge, prompts(), samples, extract=extract)
  assert [int(name.removeprefix("pass@")) for name in found if re.fullmatch(r"pass@\d+", name)] == expected


def test_bad_input():
  with pytest.raises(InputError, match="no prompts"):
    answers.evaluate(generate, judge, [], 4, extract=extract)
  with pytest.raises(InputError, match=r"eval\.samples: 0"):
    answers.evaluate(generate, judge, prompts(), 0, extract=extract)


def test_scores_of_every_problem_average_to_the_metrics():
  found, _ = run(per_problem=True, greedy=generate)
  assert {name for name in found if name.startswith("per_problem/")} == {
    f"per_problem/{name}" for name in ("avg@4", "maj@4", "pass@4", "greedy")
  }
  for name in ("avg@4", "maj@4", "pass@4", "greedy"):
    assert len(found[f"per_problem/{name}"]) == 4
    assert np.nanmean(found[f"per_problem/{name}"]) == pytest.approx(found[name])
  assert not [name for name in run()[0] if "per_problem" in name]
