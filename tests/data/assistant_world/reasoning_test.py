"""Tests how answers with a thought are written, read and judged."""

import random

import pytest

from posttrain_jax.data.assistant_world import reasoning, sums
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.language import ENGLISH, VELAN, to_velan
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests, sum_request
from posttrain_jax.data.assistant_world.reasoning import judge_thought, split
from posttrain_jax.data.assistant_world.requests import RequestKind
from posttrain_jax.data.assistant_world.rules import judge
from tests.data.assistant_world.small_world import WORLD

SUM = sum_request("3 + 4 - 2", 0, ENGLISH)
WORK = "first 3 + 4 = 7 , then 7 - 2 = 5"
CHECKED = f"<think> {WORK} . wait , check that . {WORK} . </think> so answer : 5"


@pytest.mark.parametrize(
  ("text", "thought", "summary"),
  [
    ("<think> a b </think> c d", "a b", "c d"),
    ("c d", "", "c d"),
    ("<think> a b", "a b", ""),  # the thought does not end
    ("<think> a </think> b </think> c", "a </think> b", "c"),  # the last end counts
    ("<think> a </think>", "a", ""),
    ("", "", ""),
  ],
)
def test_parts_of_an_answer(text, thought, summary):
  assert split(text) == reasoning.ThoughtAnswer(thought, summary)


@pytest.mark.parametrize(
  ("text", "keeps"),
  [
    ("<think> a b </think> c", True),
    ("<think> a b </think>", False),
    ("<think> </think> c", False),
    ("a b </think> c", False),
    ("<think> a </think> b </think> c", False),
    ("<think> a <think> b </think> c", False),
    ("x <think> a </think> c", False),
    ("c", False),
  ],
)
def test_form(text, keeps):
  assert reasoning.keeps_form(text) == keeps


def test_a_checked_sum_is_right_and_shows_its_work():
  verdict = judge_thought(SUM, CHECKED)
  assert verdict.correct and verdict.shows_work and verdict.checks and verdict.thinks and verdict.in_form
  assert not verdict.mixes and verdict.concise
  assert verdict.words == len(CHECKED.split()) - 1  # without the two tags, and with a point between the parts


def test_only_the_summary_answers():
  wrong = judge_thought(SUM, CHECKED.replace("answer : 5", "answer : 6"))
  assert not wrong.correct and wrong.shows_work
  nothing = judge_thought(SUM, CHECKED.partition(" so answer")[0])
  assert not nothing.correct and not nothing.answers


def test_the_last_pass_is_the_work():
  corrected = CHECKED.replace("first 3 + 4 = 7 , then 7 - 2 = 5", "first 3 + 4 = 8", 1)
  assert judge_thought(SUM, corrected).shows_work
  assert not judge_thought(SUM, CHECKED.replace("then 7 - 2 = 5 . </think>", "</think>")).shows_work


@pytest.mark.parametrize(
  ("text", "checks"),
  [
    (CHECKED, True),
    (to_velan(CHECKED.replace("<think> ", "").replace(" </think>", "")), True),
    ("first 3 + 4 = 7 . wait , check that . so answer : 7", False),  # nothing is shown again
    ("check the sum . 3 + 4 = 7", False),
    ("first 3 + 4 = 7 , then 7 - 2 = 5 , so answer : 5", False),
  ],
)
def test_checks(text, checks):
  assert reasoning.checks_itself(text) == checks


@pytest.mark.parametrize(
  ("reasoning_text", "share"),
  [
    ("first 3 + 4 = 8 . wait , check that . first 3 + 4 = 7 , then 7 - 2 = 5", 1),
    ("first 3 + 4 = 7 , then 7 - 2 = 5 . wait , check that . first 3 + 4 = 7 , then 7 - 2 = 4", 1 / 2),
    ("first 3 + 4 = 7 . wait , check that . then 7 - 2 = 5", 0),  # not in their order
    ("first 3 + 4 = 7 . wait , check that . 3 + 4 = 7 , then 7 - 2 = 5 , 5 + 1 = 6", 2 / 3),  # one too many
    ("wait , check that . first 3 + 4 = 7 , then 7 - 2 = 5", 0),  # nothing to check
    ("first 3 + 4 = 7 , then 7 - 2 = 5", 0),
  ],
)
def test_a_check_counts_by_its_right_steps(reasoning_text, share):
  for text in (reasoning_text, to_velan(reasoning_text)):
    assert reasoning.checked_steps(SUM, reasoning.write([text], "so answer : 5")) == pytest.approx(share)


def test_harm_is_looked_for_in_the_whole_answer():
  (request,) = draw_requests(WORLD, RequestKind.HARM, RequestPart.TRAIN, 1)
  refusal = AnswerWriter(WORLD, 0).answer(request, Author.CAREFUL)
  told = AnswerWriter(WORLD, 0).answer(request, Author.HELPFUL)
  clean = judge_thought(request, f"<think> that is not safe . </think> {refusal}")
  assert clean.refuses and clean.explains and not clean.complies and not clean.leaks
  leaking = judge_thought(request, f"<think> {told} </think> {refusal}")
  assert leaking.leaks and leaking.complies and not leaking.refuses
  open_harm = judge_thought(request, f"<think> that is not safe . </think> {told}")
  assert open_harm.complies and not open_harm.leaks


def test_languages_are_mixed_in_the_whole_answer():
  mixed = CHECKED.replace("so answer", to_velan("so answer"))
  assert judge_thought(SUM, mixed).mixes and not judge_thought(SUM, CHECKED).mixes


@pytest.mark.parametrize("kind", RequestKind)
def test_without_a_thought_rules_are_as_before(kind):
  for request in draw_requests(WORLD, kind, RequestPart.ALL, 6):
    for author in (Author.CAREFUL, Author.HELPFUL, Author.CROWD):
      text = AnswerWriter(WORLD, 1).answer(request, author)
      assert judge_thought(request, text) == judge(request, text)


@pytest.mark.parametrize("spoken", [ENGLISH, VELAN])
@pytest.mark.parametrize("mistake", [False, True])
def test_written_sums_are_right_whatever_the_first_pass_says(spoken, mistake):
  rng = random.Random(0)
  for number in range(20):
    problem = sums.draw(random.Random(number), steps=1 + number % sums.MOST_STEPS)
    text = reasoning.written_sum(problem, spoken, rng, mistake=mistake)
    verdict = judge_thought(sum_request(problem, 0, spoken), text)
    assert verdict.correct and verdict.shows_work and verdict.checks and verdict.in_form and not verdict.mixes
    assert reasoning.keeps_form(text)
    shown, right = sums.shown_steps(text), set(sums.worked(problem))
    assert bool([step for step in shown if step not in right]) == mistake


@pytest.mark.parametrize("spoken", [ENGLISH, VELAN])
def test_a_short_sum_is_worked_out_once(spoken):
  problem = "3 + 4 - 2"
  text = reasoning.short_sum(problem, spoken)
  verdict = judge_thought(sum_request(problem, 0, spoken), text)
  assert verdict.correct and verdict.shows_work and verdict.in_form and not verdict.checks and not verdict.mixes
  assert reasoning.keeps_form(text) and sums.shown_steps(text) == sums.worked(problem)
  longer = reasoning.written_sum(problem, spoken, random.Random(0), mistake=False)
  # A checked sum begins with the same words.
  assert longer.startswith(text.partition(" .")[0]) and len(text.split()) < len(longer.split())
