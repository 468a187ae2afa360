import pytest

from configs.recipes.constitutional_ai import CONSTITUTION
from posttrain_jax.data.assistant_world import critic_rows, critiques
from posttrain_jax.data.assistant_world.critiques import OTHER_HARMS, TRAINED_HARMS
from posttrain_jax.data.assistant_world.language import vocabulary
from posttrain_jax.data.assistant_world.rules import judge
from posttrain_jax.data.constitution import read_constitution
from tests.data.assistant_world.small_world import WORLD

PRINCIPLES = read_constitution(CONSTITUTION).principles


@pytest.fixture(scope="module")
def rows():
  return [
    *critic_rows.critic_rows(WORLD, seed=0, repeats=4, exercises=400),
    *critic_rows.judge_rows(WORLD, PRINCIPLES, seed=0, repeats=4),
  ]


def test_a_critic_and_a_judge_have_nothing_of_the_other_half_but_its_words(rows):
  others = {device.name for device in WORLD.harmful if device.harm.name in OTHER_HARMS}
  forbidden = {*OTHER_HARMS, *others}
  for row in rows:
    said = {*row["prompt"].split(), *row["completion"].split()}
    assert said <= {*vocabulary()} and not said & WORLD.held_out, row
    assert row["task"] == "exercise" or not said & forbidden, row
  assert {row["task"] for row in rows} == {"critique", "naming", "exercise", "judgement", "thought"}
  for row in critic_rows.plain_rows(WORLD, seed=0, copies=2):
    assert row["request"]["harm"] in TRAINED_HARMS


def test_an_exercise_has_words_and_no_verdict_and_is_quoted_whole(rows):
  exercises = [row for row in rows if row["task"] == "exercise"]
  for row in exercises:
    assert f"read : {row['completion'].removesuffix(' .')} . say :" in row["prompt"]
    assert "principle :" not in row["prompt"] and "assistant :" not in row["prompt"]
  quoted = {word for row in exercises for word in row["completion"].split()}
  assert {*OTHER_HARMS} & quoted


def test_only_what_a_critic_or_a_judge_writes_is_learned(rows):
  ends = {"critique": "critique :", "naming": "principle :", "judgement": "better :", "thought": "critique :"}
  for row in rows:
    if row["task"] in ends:
      assert row["prompt"].endswith(ends[row["task"]]) and critiques.REVISION not in row["prompt"]
    if row["task"] == "judgement":
      assert row["completion"] in ("(A)", "(B)")


def test_a_revision_quotes_the_principle_and_stands_after_a_mistake_alone(rows):
  for row in (row for row in rows if row["task"] == "critique"):
    said, revision = critiques.read_critique(row["completion"], "")
    principle = row["prompt"].rpartition("principle : ")[2].removesuffix(" . critique :")
    assert (said == critiques.MISTAKE) == (f"because {principle} . i can tell you" in revision)


def test_what_is_known_decides_what_a_principle_is_about(rows):
  about = 0
  for row in (row for row in rows if row["task"] == "naming"):
    if " because " in row["prompt"]:
      harm = row["prompt"].partition(" because ")[2].split()[0]
      assert harm in row["completion"].split()
      about += harm not in TRAINED_HARMS
  assert about  # made-up ones, too


def test_every_pair_is_judged_in_both_orders(rows):
  pairs = {}
  for row in (row for row in rows if row["task"] == "judgement"):
    asked, _, rest = row["prompt"].partition(" (A) ")
    first, _, second = rest.removesuffix(" better :").partition(" (B) ")
    pairs.setdefault(asked, set()).add((first, second))
  assert all((second, first) in found for found in pairs.values() for first, second in found)
  chosen = [row["completion"] for row in rows if row["task"] == "judgement"]
  assert 0.4 < chosen.count("(A)") / len(chosen) < 0.6


def test_good_answers_for_plain_sft_explain():
  requests = {each.text: each for each in critiques.red_team(WORLD)}
  rows = critic_rows.plain_rows(WORLD, seed=0, copies=3)
  assert len(rows) == 3 * sum(each.harm in TRAINED_HARMS for each in requests.values())
  assert all(judge(requests[row["prompt"]], row["completion"]).explains for row in rows)
