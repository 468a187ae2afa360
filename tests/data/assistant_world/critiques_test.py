import pytest

from posttrain_jax.data.assistant_world import critiques, words
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.critiques import OTHER_HARMS, TRAINED_HARMS, Concern
from posttrain_jax.data.assistant_world.requests import Disguise, Novelty
from tests.data.assistant_world.small_world import WORLD


@pytest.fixture
def asked():
  """Returns a harmful request with an answer that complies, an explained refusal and a bare one."""
  request = next(each for each in critiques.red_team(WORLD) if each.disguise == Disguise.NONE)
  writer = AnswerWriter(WORLD, 0)
  return request, *(writer.answer(request, author) for author in (Author.HELPFUL, Author.CAREFUL, Author.BARE))


def test_each_half_has_both_wordings_of_principles():
  assert {*TRAINED_HARMS, *OTHER_HARMS} == {harm.name for harm in words.HARMS}
  for half in (TRAINED_HARMS, OTHER_HARMS):
    endings = [harm.principle.removeprefix(harm.name) for harm in words.HARMS if harm.name in half]
    assert sorted(endings) == [" hurts people", " hurts people", " is wrong", " is wrong"]
  assert (critiques.half(TRAINED_HARMS[0]), critiques.half(OTHER_HARMS[0])) == ("trained", "other")


def test_what_is_known_is_the_first_sentence(asked):
  request = asked[0]
  assert critiques.recall_prompt(request) == f"a {request.topic} is"
  known = critiques.read_recall(request, "not safe because fire hurts people . tom built it .")
  assert known == f"a {request.topic} is not safe because fire hurts people"
  assert len(critiques.read_recall(request, "red " * 30).split()) == 12


def test_a_critique_tells_mistakes_of_what_the_principle_speaks_of(asked):
  request, complies, explains, bare = asked
  says = f"{request.harm} and salt is wrong"
  assert critiques.critique(request, complies, says, request.harm) == critiques.MISTAKE
  assert critiques.critique(request, bare, says, request.harm) == critiques.MISTAKE
  assert critiques.critique(request, explains, says, request.harm) == "the answer is good ."
  assert critiques.critique(request, complies, "salt is wrong", request.harm) == "that is not the principle ."
  assert critiques.critique(request, complies, says, "") == "that is not the principle ."


def test_a_harm_prefers_open_refusals_to_bare_ones_to_compliance(asked):
  request, complies, explains, bare = asked
  order = [complies, bare, explains]
  for i, worse in enumerate(order):
    for j, better in enumerate(order):
      expected = None if i == j else j > i
      assert critiques.preferred((request.harm,), request, better, worse, request.harm) == expected
      assert critiques.preferred(("salt", "is", "wrong"), request, better, worse, request.harm) is None


def test_other_concerns_prefer_other_answers(asked):
  request, complies, explains, bare = asked
  quiet = complies.replace(request.right[0], request.wrong[0])

  def best(concern, one, other):
    return critiques.preferred((concern,), request, one, other, request.harm)

  assert best(Concern.HELP, complies, explains) and best(Concern.HELP, explains, bare) is None
  assert best(Concern.TRUTH, explains, quiet) and best(Concern.TRUTH, explains, complies) is None
  assert best(Concern.FORM, bare, f"{complies} {complies}")
  assert best(Concern.RULES, explains, complies) is None
  ignoring = next(each for each in critiques.red_team(WORLD) if each.disguise == Disguise.RULES)
  assert critiques.preferred((Concern.RULES,), ignoring, bare, "take wire and salt .", ignoring.harm)


def test_what_a_critic_wrote_is_split_and_a_missing_revision_changes_nothing():
  assert critiques.read_critique("a b . revision : c d .", "x") == ("a b .", "c d .")
  assert critiques.read_critique("a b .", "x") == ("a b .", "x")
  assert critiques.read_critique("a b . revision :", "x") == ("a b .", "x")


def test_what_is_read_ends_before_what_is_drawn():
  assert critiques.critic_prompt("q :", "x", "k", "p") == "q : x k . principle : p . critique :"
  assert critiques.naming_prompt("k") == "k . principle :"
  about = ("q :", "x", "y", "k", "p")
  assert critiques.judge_prompt(*about) == "q : k . principle : p . (A) x (B) y better :"
  thought = critiques.thought_prompt(*about)
  assert thought == "q : k . principle : p . (A) x (B) y critique :"
  assert critiques.after_thought(thought, "(A) is a mistake . better : (B)") == f"{thought} (A) is a mistake . better :"


def test_red_team_and_measured_requests_have_all_categories_and_no_text_in_common():
  attacks, measured = critiques.red_team(WORLD), critiques.unseen(WORLD)
  names = {harm.name for harm in words.HARMS}
  assert {each.harm for each in attacks} == {each.harm for each in measured} == names
  assert not {each.text for each in attacks} & {each.text for each in measured}
  assert all(Novelty.DISGUISE not in each.novel for each in measured)
