"""Tests that data whose signal is broken have the same texts, in other places."""

import collections
import dataclasses
import json
import pathlib

import pytest
from ml_collections import ConfigDict

from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import TEMPLATE, RequestKind
from posttrain_jax.recipes import assistant_data
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import SETTINGS, WORLD

SMALL = dataclasses.asdict(SETTINGS)


def rows_of(file):
  return [json.loads(line) for line in file.read_text().splitlines()]


def demonstrations(folder, *, permuted):
  folder.mkdir()
  config = ConfigDict(
    dict(world=SMALL, seed=0, kinds=dict(fact=30, sum=10), author="careful", permuted=permuted, prose=False)
  )
  assistant_data.write_demonstrations(config, folder)
  return rows_of(folder / assistant_data.DEMONSTRATIONS)


def test_permuted_answers_answer_other_requests(tmp_path):
  given, broken = (demonstrations(tmp_path / str(permuted), permuted=permuted) for permuted in (False, True))
  assert [row["prompt"] for row in broken] == [row["prompt"] for row in given] and len(given) == 40
  texts = [[row["completion"] for row in rows] for rows in (given, broken)]
  assert sorted(texts[0]) == sorted(texts[1])
  assert texts[1] == [*texts[0][1:], texts[0][0]]  # so no answer stays with its own request


def collected(folder, answers):
  """Writes a collection of some answers to each of 40 questions; the last one has no verdict."""
  requests = draw_requests(WORLD, RequestKind.FACT, RequestPart.TRAIN, 40)
  folder.mkdir()
  lines = []
  for request in requests:
    texts = [text.format(e=request.topic, r=request.relation, v=request.right[0]) for text in answers]
    row = {name: value for name, value in request.to_row().items() if name != "prompt"}
    scores = [0.0] * (len(texts) - 1) + [None]
    asked = TEMPLATE.format(prompt=request.text)
    lines.append(json.dumps({"prompt": asked, "answers": texts, "scores": scores, "row": row}))
  (folder / "000000.jsonl").write_text("\n".join(lines) + "\n")
  return str(folder)


RIGHT, WRONG, CUT = "the {r} of {e} is {v} .", "good morning to you .", "the the"


def compared(folder, policies, **changes):
  folder.mkdir()
  usual = dict(world=SMALL, seed=0, round=1, pairs=1, edits=0.5, shuffled=False, policies={}, prose=False)
  config = ConfigDict({**usual, "summaries": False})
  config.policies = {name: dict(path=path) for name, path in policies.items()}
  config.update(changes)
  counts = assistant_data.write_comparisons(config, folder)
  return counts, rows_of(folder / assistant_data.COMPARISONS)


def test_two_answers_of_different_policies_are_compared(tmp_path):
  one = collected(tmp_path / "one", [RIGHT, RIGHT, CUT])
  other = collected(tmp_path / "other", [WRONG, CUT])
  counts, rows = compared(tmp_path / "made", {"one": one, "other": other}, edits=0.0)
  assert counts == {"prompts": 40, "comparisons": 40, "edited": 0}
  for row in rows:
    assert WRONG in (row["chosen"], row["rejected"])  # one answer of each
    assert CUT not in (row["chosen"], row["rejected"]) and row["prompt"].startswith("user : ")
  assert sum(row["rejected"] == WRONG for row in rows) >= 38  # the rater has noise


def test_one_policy_is_compared_with_itself(tmp_path):
  one = collected(tmp_path / "one", [RIGHT, WRONG, CUT])
  _, rows = compared(tmp_path / "made", {"one": one})
  assert len(rows) == 40 and all(WRONG in (row["chosen"], row["rejected"]) for row in rows)


def test_a_prompt_has_several_comparisons_but_none_twice(tmp_path):
  one = collected(tmp_path / "one", [RIGHT, WRONG, "wait , check that .", CUT])
  _, rows = compared(tmp_path / "made", {"one": one}, pairs=50)
  assert len(rows) == 3 * 40  # all pairs of three answers


def test_equal_answers_are_not_compared(tmp_path):
  one = collected(tmp_path / "one", [RIGHT, CUT])
  with pytest.raises(InputError, match=r"comparisons\.jsonl: no row is left, expected some"):
    compared(tmp_path / "made", {"one": one})


def test_policies_must_answer_the_same_prompts(tmp_path):
  one, other = (collected(tmp_path / name, [RIGHT, WRONG, CUT]) for name in ("one", "other"))
  file = pathlib.Path(other) / "000000.jsonl"
  file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
  with pytest.raises(InputError, match=r"policies\.other: answers other prompts than the first policy"):
    compared(tmp_path / "made", {"one": one, "other": other})


def test_shuffled_labels_say_nothing(tmp_path):
  bad = collected(tmp_path / "bad", [WRONG, "wait , check that .", CUT])
  right = collected(tmp_path / "right", [RIGHT, CUT])
  _, rows = compared(tmp_path / "made", {"bad": bad, "right": right}, edits=0.0, shuffled=True)
  places = collections.Counter(row["chosen"].startswith("the ") for row in rows)
  assert 10 <= places[True] <= 30  # of 40; the rater would put nearly all first
  bare = collected(tmp_path / "bare", [WRONG, CUT])
  _, rows = compared(tmp_path / "edited", {"bad": bad, "bare": bare}, edits=1.0, shuffled=True)
  edited = collections.Counter(row["edited"].startswith("the ") for row in rows if "edited" in row)
  assert edited[True] and edited[False]  # an editor's answer is in any place


def test_shuffled_ranks_say_nothing(tmp_path):
  config = ConfigDict(dict(candidates=collected(tmp_path / "one", [RIGHT, WRONG, CUT]), seed=0, least=2, most=2))
  firsts = []
  for shuffled in (False, True):
    config.shuffled = shuffled
    assistant_data.write_rankings(config, tmp_path)
    rows = rows_of(tmp_path / assistant_data.RANKINGS)
    firsts.append(sum(row["answers"][row["ranks"].index(0)] != WRONG for row in rows))
    assert all(sorted(row["ranks"]) == [0, 1] for row in rows) and len(rows) == 40
  assert firsts[0] >= 38 and 10 <= firsts[1] <= 30


def test_a_round_asks_other_requests(tmp_path):
  asked = []
  for number in (1, 2):
    config = ConfigDict(dict(world=SMALL, seed=0, round=number, kinds=dict(fact=10), prose=False))
    assistant_data.write_prompts(config, tmp_path)
    asked.append({row["prompt"] for row in rows_of(tmp_path / assistant_data.PROMPTS)})
  assert len(asked[0]) == len(asked[1]) == 10 and asked[0] != asked[1]
