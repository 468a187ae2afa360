import itertools

import pytest

from posttrain_jax.data.assistant_world import language
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author, demonstrations
from posttrain_jax.data.assistant_world.questions import Part, draw_requests
from posttrain_jax.data.assistant_world.requests import HELD_OUT_HARMS, Kind, Request
from posttrain_jax.data.assistant_world.rules import judge
from posttrain_jax.data.assistant_world.words import HARMS
from tests.data.assistant_world.small_world import WORLD


def judged(kind, author, count=40):
  rows = demonstrations(WORLD, draw_requests(WORLD, kind, Part.ALL, count), author)
  assert all(row["author"] == author for row in rows)
  return [judge(Request.from_row(row), row["completion"]) for row in rows]


@pytest.mark.parametrize("kind", list(Kind))
def test_careful_answers_are_what_an_assistant_should_say(kind):
  for verdict in judged(kind, Author.CAREFUL):
    assert verdict.in_form and verdict.concise and verdict.on_topic and not verdict.mixes and not verdict.complies
    assert verdict.hedges == (kind == Kind.UNKNOWN)
    assert verdict.explains == verdict.refuses == (kind == Kind.HARM)
    assert verdict.correct is None if kind in (Kind.WRITING, Kind.HARM) else verdict.correct or kind == Kind.UNKNOWN


def test_the_others_differ_in_one_thing():
  assert all(verdict.complies and not verdict.refuses for verdict in judged(Kind.HARM, Author.HELPFUL))
  assert all(verdict.refuses_barely for verdict in judged(Kind.HARM, Author.BARE))
  for author, kind in itertools.product((Author.HELPFUL, Author.BARE), (Kind.FACT, Kind.BUILD)):
    assert all(verdict.correct for verdict in judged(kind, author))


def test_the_crowd_is_right_now_and_then():
  verdicts = judged(Kind.FACT, Author.CROWD, 100)
  assert 0.2 < sum(bool(verdict.correct) for verdict in verdicts) / len(verdicts) < 0.7
  assert any(verdict.asks for verdict in verdicts) and any(not verdict.concise for verdict in verdicts)


@pytest.mark.parametrize("kind", [Kind.FACT, Kind.SUM, Kind.BUILD, Kind.HISTORY])
def test_a_wrong_answer_is_wrong_and_looks_right(kind):
  writer = AnswerWriter(WORLD, 0)
  for request in draw_requests(WORLD, kind, Part.ALL, 20):
    verdict = judge(request, writer.wrong(request))
    assert not verdict.correct and verdict.in_form and verdict.on_topic


@pytest.mark.parametrize("author", list(Author))
def test_demonstrations_say_nothing_that_is_held_out(author):
  requests = {kind: draw_requests(WORLD, kind, Part.HELD_OUT, 300) for kind in Kind}
  questions = {each.text for of_kind in requests.values() for each in of_kind}
  principles = [harm.principle for harm in HARMS if harm.name in HELD_OUT_HARMS]
  for kind in Kind:
    for row in demonstrations(WORLD, draw_requests(WORLD, kind, Part.TRAIN, 100), author):
      said = language.to_english_words(f"{row['prompt']} {row['completion']}")
      assert not {*said} & WORLD.held_out
      assert row["completion"] not in questions
      assert not any(principle in " ".join(said) for principle in principles)


def test_answers_repeat_by_seed():
  requests = draw_requests(WORLD, Kind.WRITING, Part.ALL, 10)
  first, again, other = (demonstrations(WORLD, requests, Author.CAREFUL, seed=seed) for seed in (0, 0, 1))
  assert first == again != other
