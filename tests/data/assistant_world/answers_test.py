import itertools

import pytest

from posttrain_jax.data.assistant_world import language, sums
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author, demonstrations
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.reasoning import judge_thought
from posttrain_jax.data.assistant_world.requests import HELD_OUT_HARMS, RequestKind, WorldRequest
from posttrain_jax.data.assistant_world.rules import judge
from posttrain_jax.data.assistant_world.words import HARMS
from tests.data.assistant_world.small_world import WORLD


def judged(kind, author, count=40):
  rows = demonstrations(WORLD, draw_requests(WORLD, kind, RequestPart.ALL, count), author)
  assert all(row["author"] == author for row in rows)
  return [judge(WorldRequest.from_row(row), row["completion"]) for row in rows]


@pytest.mark.parametrize("kind", list(RequestKind))
def test_careful_answers_are_what_an_assistant_should_say(kind):
  for verdict in judged(kind, Author.CAREFUL):
    assert verdict.in_form and verdict.concise and verdict.on_topic and not verdict.mixes and not verdict.complies
    assert verdict.hedges == (kind == RequestKind.UNKNOWN)
    assert verdict.explains == verdict.refuses == (kind == RequestKind.HARM)
    assert (
      verdict.correct is None
      if kind in (RequestKind.WRITING, RequestKind.HARM)
      else verdict.correct or kind == RequestKind.UNKNOWN
    )


def test_the_others_differ_in_one_thing():
  assert all(verdict.complies and not verdict.refuses for verdict in judged(RequestKind.HARM, Author.HELPFUL))
  assert all(verdict.refuses_barely for verdict in judged(RequestKind.HARM, Author.BARE))
  for author, kind in itertools.product((Author.HELPFUL, Author.BARE), (RequestKind.FACT, RequestKind.BUILD)):
    assert all(verdict.correct for verdict in judged(kind, author))


@pytest.mark.parametrize("kind", list(RequestKind))
def test_a_reasoner_answers_as_the_careful_one_after_a_thought(kind):
  requests = draw_requests(WORLD, kind, RequestPart.ALL, 40)
  for row in demonstrations(WORLD, requests, Author.REASONER):
    verdict = judge_thought(WorldRequest.from_row(row), row["completion"])
    assert verdict.in_form and verdict.concise and verdict.on_topic and not verdict.mixes and not verdict.complies
    assert verdict.thinks == (kind not in (RequestKind.LIST, RequestKind.WRITING))
    assert verdict.checks == (kind == RequestKind.SUM)
    assert verdict.explains == (kind == RequestKind.HARM) and verdict.hedges == (kind == RequestKind.UNKNOWN)


def test_a_solver_answers_as_a_reasoner_without_a_check():
  requests = draw_requests(WORLD, RequestKind.SUM, RequestPart.ALL, 20)
  for row in demonstrations(WORLD, requests, Author.SOLVER):
    verdict = judge_thought(WorldRequest.from_row(row), row["completion"])
    assert verdict.thinks and verdict.correct and verdict.shows_work and not verdict.checks
  fact = draw_requests(WORLD, RequestKind.FACT, RequestPart.ALL, 5)
  assert demonstrations(WORLD, fact, Author.SOLVER)[0]["completion"].startswith("<think>")


def test_a_reasoner_finds_some_mistakes_of_its_own():
  rows = demonstrations(WORLD, draw_requests(WORLD, RequestKind.SUM, RequestPart.ALL, 100), Author.REASONER)
  wrong = [
    any(step not in sums.worked(row["request"]["topic"]) for step in sums.shown_steps(row["completion"]))
    for row in rows
  ]
  assert 0 < sum(wrong) / len(rows) < 0.25


def test_the_crowd_is_right_now_and_then():
  verdicts = judged(RequestKind.FACT, Author.CROWD, 100)
  assert 0.2 < sum(bool(verdict.correct) for verdict in verdicts) / len(verdicts) < 0.7
  assert any(verdict.asks for verdict in verdicts) and any(not verdict.concise for verdict in verdicts)


@pytest.mark.parametrize("kind", [RequestKind.FACT, RequestKind.SUM, RequestKind.BUILD, RequestKind.HISTORY])
def test_a_wrong_answer_is_wrong_and_looks_right(kind):
  writer = AnswerWriter(WORLD, 0)
  for request in draw_requests(WORLD, kind, RequestPart.ALL, 20):
    verdict = judge(request, writer.wrong(request))
    assert not verdict.correct and verdict.in_form and verdict.on_topic


@pytest.mark.parametrize("author", list(Author))
def test_demonstrations_say_nothing_that_is_held_out(author):
  requests = {kind: draw_requests(WORLD, kind, RequestPart.HELD_OUT, 300) for kind in RequestKind}
  questions = {each.text for of_kind in requests.values() for each in of_kind}
  principles = [harm.principle for harm in HARMS if harm.name in HELD_OUT_HARMS]
  for kind in RequestKind:
    for row in demonstrations(WORLD, draw_requests(WORLD, kind, RequestPart.TRAIN, 100), author):
      said = language.to_english_words(f"{row['prompt']} {row['completion']}")
      assert not {*said} & WORLD.held_out
      assert row["completion"] not in questions
      assert not any(principle in " ".join(said) for principle in principles)


def test_answers_repeat_by_seed():
  requests = draw_requests(WORLD, RequestKind.WRITING, RequestPart.ALL, 10)
  first, again, other = (demonstrations(WORLD, requests, Author.CAREFUL, seed=seed) for seed in (0, 0, 1))
  assert first == again != other
