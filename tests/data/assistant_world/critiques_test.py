import random

import pytest

from posttrain_jax.data.assistant_world import critiques, words
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.language import vocabulary
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import HELD_OUT_HARMS, Disguise, Novelty, RequestKind
from posttrain_jax.data.assistant_world.rules import judge
from tests.data.assistant_world.small_world import WORLD


@pytest.fixture(scope="module")
def rows():
  return critiques.critic_rows(WORLD, seed=0, repeats=4)


@pytest.fixture
def asked():
  """Returns a harmful request with an answer that complies, an explained refusal and a bare one."""
  request = next(each for each in draw_requests(WORLD, RequestKind.HARM, RequestPart.TRAIN, 100) if
                 each.disguise == Disguise.NONE)  # fmt: skip
  writer = AnswerWriter(WORLD, 0)
  return request, *(writer.answer(request, author) for author in (Author.HELPFUL, Author.CAREFUL, Author.BARE))


def test_a_critique_says_what_the_corpus_tells_and_whether_the_principle_speaks_of_it(asked):
  request, complies, explains, bare = asked
  harm = next(each for each in words.HARMS if each.name == request.harm)
  known = f"a {request.topic} is not safe because {harm.principle} ."
  other = next(name for name in critiques.TRAINED_HARMS if name != harm.name)
  assert critiques.critique(request, complies, [harm.name]) == f"{known} the answer is a mistake ."
  assert critiques.critique(request, bare, [harm.name]) == f"{known} the answer is a mistake ."
  assert critiques.critique(request, explains, [harm.name]) == f"{known} the answer is good ."
  assert critiques.critique(request, complies, [other]) == f"{known} that is not the principle ."
  harmless = draw_requests(WORLD, RequestKind.BUILD, RequestPart.TRAIN, 1)[0]
  assert critiques.critique(harmless, "", [harm.name]) == f"a {harmless.topic} is safe . the answer is good ."


def test_a_principle_prefers_open_refusals_to_bare_ones_to_compliance_or_nothing(asked):
  request, complies, explains, bare = asked
  order = [complies, bare, explains]
  for i, worse in enumerate(order):
    for j, better in enumerate(order):
      expected = None if i == j else j > i
      assert critiques.preferred(request, better, worse, [request.harm]) == expected
      assert critiques.preferred(request, better, worse, ["no such"]) is None


def test_critic_data_have_nothing_of_the_other_half(rows):
  others = {device.name for device in WORLD.harmful if device.harm.name in HELD_OUT_HARMS}
  forbidden = {*HELD_OUT_HARMS, *others, *WORLD.held_out}
  for row in rows:
    said = {*row["prompt"].split(), *row["completion"].split()}
    assert not said & forbidden and said <= {*vocabulary()}, row
  assert {row["task"] for row in rows} == {"critique", "judgement"}
  for row in critiques.plain_rows(WORLD, seed=0):
    assert row["request"]["harm"] in critiques.TRAINED_HARMS


def test_only_what_a_critic_writes_is_learned(rows):
  for row in rows:
    if row["task"] == "judgement":
      assert row["prompt"].endswith("better :") and row["completion"] in ("(A)", "(B)")
      continue
    assert row["prompt"].endswith("critique :") and critiques.REVISION not in row["prompt"]
    answer = row["prompt"].partition("assistant : ")[2].rpartition(" principle : ")[0]
    critique, revision = critiques.read_critique(row["completion"], answer)
    assert (revision == answer) == ("mistake" not in critique)


def test_revisions_of_mistakes_explain(rows, asked):
  request, *_ = asked
  revised = [row["completion"] for row in rows if f"a {request.topic} " in row["completion"] and "mistake" in
             row["completion"]]  # fmt: skip
  assert revised and all(judge(request, critiques.read_critique(text, "")[1]).explains for text in revised)


def test_what_a_critic_wrote_is_split_and_a_missing_revision_changes_nothing():
  assert critiques.read_critique("a b . revision : c d .", "x") == ("a b .", "c d .")
  assert critiques.read_critique("a b .", "x") == ("a b .", "x")
  assert critiques.read_critique("a b . revision :", "x") == ("a b .", "x")


def test_judgements_of_equal_answers_are_drawn(rows):
  ties = [row["completion"] for row in rows if row["task"] == "judgement"]
  assert 0.3 < ties.count("(A)") / len(ties) < 0.7


def test_principles_are_about_the_given_harm_half_of_the_time():
  rng = random.Random(0)
  drawn = [critiques.draw_principle(rng, "fire") for _ in range(400)]
  assert 0.4 < sum("fire" in about for _, about in drawn) / 400 < 0.6
  for says, about in drawn:
    assert {*about} == {*says.split()} & {harm.name for harm in words.HARMS} and {*about} <= {*critiques.TRAINED_HARMS}


def test_red_team_and_measured_requests_have_all_categories_and_no_text_in_common():
  attacks, measured = critiques.red_team(WORLD), critiques.unseen(WORLD)
  names = {harm.name for harm in words.HARMS}
  assert {each.harm for each in attacks} == {each.harm for each in measured} == names
  assert not {each.text for each in attacks} & {each.text for each in measured}
  assert all(Novelty.DISGUISE not in each.novel for each in measured)
