"""Writes and reads answers that think first: "<think> REASONING </think> SUMMARY".

As in R1 (arXiv:2501.12948, section 2.3.1) people read the summary. The work and its checks stand in the reasoning. A
rule judges the summary, except that harm is looked for in the whole answer.

This module must not import jax, because reward workers import it.
"""

import dataclasses
import itertools
import random
import re
from collections.abc import Iterator, Sequence

from posttrain_jax.data.assistant_world import language, sums, words
from posttrain_jax.data.assistant_world.requests import RequestKind, WorldRequest
from posttrain_jax.data.assistant_world.rules import RuleVerdict, judge

START, END = words.TAGS[:2]
_CHECK = "wait , check that"
_CHECKED = re.compile(r"\bcheck that\b")
_FORM = re.compile(rf"{START} (?P<reasoning>.+) {END} (?P<summary>.+)")


@dataclasses.dataclass(frozen=True)
class ThoughtAnswer:
  """Holds the two parts of an answer.

  Attributes:
    reasoning: what stands before the last end of a thought; empty without one.
    summary: what stands after it; the whole text without one.
  """

  reasoning: str
  summary: str


def split(text: str) -> ThoughtAnswer:
  """Splits an answer at its last `</think>`.

  A thought that does not end is no summary: all of such a text is reasoning.
  """
  before, end, after = text.rpartition(END)
  if end:
    return ThoughtAnswer(before.strip().removeprefix(START).strip(), after.strip())
  if text.strip().startswith(START):
    return ThoughtAnswer(text.strip().removeprefix(START).strip(), "")
  return ThoughtAnswer("", text)


def keeps_form(text: str) -> bool:
  """Tells whether a text is one thought and then a summary, neither empty."""
  found = _FORM.fullmatch(text.strip())
  return bool(found) and not any(tag in part for part in found.groups() for tag in words.TAGS)


def judge_thought(request: WorldRequest, text: str) -> RuleVerdict:
  """Judges an answer that may think first.

  The summary is judged as an answer is. The whole answer decides whether it complies with harm, mixes languages, and
  how long it is. The last pass over a sum's steps decides whether its work is shown. An answer without tags is judged
  as `rules.judge` does it.
  """
  parts = split(text)
  if not parts.reasoning:
    return dataclasses.replace(judge(request, parts.summary), checks=checks_itself(text))
  summary, whole = judge(request, parts.summary), judge(request, f"{parts.reasoning} . {parts.summary}")
  passes = _CHECKED.split(" ".join(language.to_english_words(parts.reasoning)))
  return dataclasses.replace(
    summary,
    complies=whole.complies,
    refuses=summary.refuses and not whole.complies,
    shows_work=request.kind == RequestKind.SUM and sums.shows_work(passes[-1], request.topic),
    mixes=whole.mixes,
    words=whole.words,
    thinks=True,
    checks=checks_itself(text),
    leaks=whole.complies and not summary.complies,
  )


def checks_itself(text: str) -> bool:
  """Tells whether an answer says that it checks, and then shows a step again."""
  said = " ".join(language.to_english_words(text))
  found = _CHECKED.search(said)
  return bool(found) and bool(sums.shown_steps(said[found.end() :]))


def checked_steps(request: WorldRequest, text: str) -> float:
  """Returns the share of a sum's steps that the last check in an answer shows.

  They count in their order and with right results. Other steps count against it. It is 0 without a check, and without
  a step before the check.
  """
  first, *checks = _CHECKED.split(" ".join(language.to_english_words(split(text).reasoning)))
  if not checks or not sums.shown_steps(first):
    return 0.0
  steps, shown = sums.worked(request.topic), sums.shown_steps(checks[-1])
  right = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(steps, shown))
  return len(list(right)) / max(len(steps), len(shown))


def write(reasoning: Sequence[str], summary: str) -> str:
  """Writes an answer from the sentences of its reasoning, without their points, and its summary."""
  return " ".join([START, *(f"{sentence} ." for sentence in reasoning), END, summary])


def written_sum(problem: str, spoken: str, rng: random.Random, *, mistake: bool) -> str:
  """Works a sum out, checks it, and states the answer: an answer in one language.

  Args:
    problem: the sum.
    spoken: the language, one of `words.LANGUAGES`.
    rng: draws the mistake.
    mistake: whether the first pass ends with a wrong step, which the check finds.
  """
  steps = sums.worked(problem)
  first = _with_mistake(steps, rng) if mistake else steps
  passes = (" , ".join(_named(first)), _CHECK, " , ".join(_named(steps)))
  said = [language.in_language(text, spoken) for text in passes]
  return write(said, language.in_language(f"so answer : {sums.results(problem)[-1]}", spoken))


def short_sum(problem: str, spoken: str) -> str:
  """Works a sum out once, without a check, and states the answer."""
  said = language.in_language(" , ".join(_named(sums.worked(problem))), spoken)
  return write([said], language.in_language(f"so answer : {sums.results(problem)[-1]}", spoken))


def _named(steps: Sequence[str]) -> Iterator[str]:
  for number, step in enumerate(steps):
    yield f"{'then' if number else 'first'} {step}"


def _with_mistake(steps: Sequence[str], rng: random.Random) -> list[str]:
  """Returns the steps up to one, which has a wrong result."""
  place = rng.randrange(len(steps))
  *before, right = steps[place].split()
  wrong = rng.choice([str(digit) for digit in range(10) if str(digit) != right])
  return [*steps[:place], " ".join([*before, wrong])]
