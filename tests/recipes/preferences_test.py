import json

import pytest

from posttrain_jax.recipes import preferences
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.types import InputError


def longest(texts, rows, *, minus=False):
  """Rates an answer by its length."""
  assert all(row["prompt"] for row in rows)
  return [-len(text) if minus else len(text) for text in texts]


def write(folder, *candidates):
  folder.mkdir(parents=True)
  for number, (prompt, answers) in enumerate(candidates):
    line = dict(prompt=prompt, answers=list(answers), scores=list(answers.values()), row={"answer": "3"})
    (folder / f"{number:06d}.jsonl").write_text(json.dumps(line | {"truncated": 0, "empty": 0}) + "\n")


@pytest.fixture
def config(tmp_path):
  write(tmp_path / "a" / "candidates", ("1+2=", {"3": 1.0, "4": 0.0}), ("2+2=", {"4": 0.5, "five": None}))
  write(tmp_path / "b" / "candidates", ("1+2=", {"33": 0.5, "5": -1.0}), ("2+2=", {"4": 0.5, "6": 0.5}))

  def make(*names, **options):
    found = preferences.policies(*names, **options)
    for name in names:
      found.policies[name].path = str(tmp_path / name / "candidates")
    return found

  return make


def rows(folder):
  return [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]


def test_the_best_of_all_policies_stands_above_the_worst(config, tmp_path):
  counts = preferences.prefer(config("a", "b"), tmp_path / "made")
  # The answers to the second prompt have equal scores, or none.
  assert counts == {
    "prompts": 2, "pairs": 1, "chosen/a": 1, "rejected/a": 0, "chosen/b": 0, "rejected/b": 1,
  }  # fmt: skip
  pair = dict(prompt="1+2=", chosen="3", rejected="5", answer="3", chosen_from="a", rejected_from="b")
  assert rows(tmp_path / "made") == [pair]


def test_a_rater_in_place_of_the_scores(config, tmp_path):
  rated = config("a", "b", rater="tests.recipes.preferences_test:longest", minus=True)
  preferences.check(rated)
  counts = preferences.prefer(rated, tmp_path / "made")
  assert [(row["chosen"], row["rejected"]) for row in rows(tmp_path / "made")] == [("3", "33")]
  assert counts["rejected/b"] == 1  # "five" has no verdict, so no rater makes it the worst of the second prompt


def test_bad_input(config, tmp_path):
  with pytest.raises(InputError, match="found no candidates"):
    preferences.prefer(config("a", "c"), tmp_path / "made")
  write(tmp_path / "d" / "candidates", ("9+9=", {"8": 1.0}))
  with pytest.raises(InputError, match=r"policies.d: answers other prompts than a"):
    preferences.prefer(config("a", "d"), tmp_path / "made")
  write(tmp_path / "e" / "candidates", ("9+9=", {"8": 1.0}))
  with pytest.raises(InputError, match="no pair is left of 1 prompts"):
    preferences.prefer(config("e"), tmp_path / "made")
  with pytest.raises(InputError, match="no_such"):
    preferences.check(config("a", rater="no_such.module:rate"))
  with pytest.raises(InputError, match=r"policies.a.paths: unknown"):
    preferences.check(preferences.ConfigDict({"policies": {"a": {"paths": ""}}, "rater": "", "rater_options": {}}))


def test_the_number_of_pairs_is_estimated(tmp_path):
  known = Forecast(0.5)
  known.expect_rows(tmp_path / "answers" / "pairs.jsonl", 7)
  found = preferences.policies("a")
  found.policies.a.path = str(tmp_path / "answers" / "candidates")
  assert preferences.forecast(found, known).rows == {"pairs.jsonl": 7}
