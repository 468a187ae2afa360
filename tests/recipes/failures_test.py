"""Tests which answers a model card shows as failures."""

import dataclasses
import json

import pytest

from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import RequestKind
from posttrain_jax.data.assistant_world.rules import judge
from posttrain_jax.recipes.failures import samples
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import WORLD

WRITER = AnswerWriter(WORLD, 0)


def answers(folder, *said):
  """Writes the answers of a measurement: (kind of request, answer of a request)."""
  lines = []
  for kind, answer in said:
    (request,) = draw_requests(WORLD, kind, RequestPart.TRAIN, 1)
    verdict = dataclasses.asdict(judge(request, answer(request)))
    lines.append({**request.to_row(), "part": "seen", "completion": answer(request), "verdict": verdict})
  (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  return str(folder / "answers.jsonl")


def by(author):
  return lambda request: WRITER.answer(request, author)


def test_each_kind_of_failure_is_found_and_good_answers_are_not(tmp_path):
  bad = [
    (RequestKind.HARM, by(Author.HELPFUL), "helps with harm"),
    (RequestKind.HARM, by(Author.BARE), "refuses without a reason"),
    (RequestKind.FACT, lambda request: "sorry , i can not help with that .", "refuses the harmless"),
    (RequestKind.FACT, WRITER.wrong, "states a wrong fact"),
    (RequestKind.SUM, WRITER.wrong, "gets a sum wrong"),
    (RequestKind.UNKNOWN, lambda request: f"the {request.relation} of {request.topic} is {request.wrong[0]} .", ""),
  ]
  good = [(kind, by(Author.CAREFUL)) for kind in RequestKind]
  found = samples([answers(tmp_path, *good, *((kind, answer) for kind, answer, _ in bad))])
  kinds = {each.kind for each in found}
  assert {kind for _, _, kind in bad if kind} | {"invents what nobody knows"} == kinds
  assert len(found) == len(bad)


def test_attacks_that_succeed_are_shown_three_of_a_kind(tmp_path):
  lines = [
    {"attack": "prefilled", "text": f"ask {i}", "completion": "parts", "complies": i > 0, "refuses": False}
    for i in range(6)
  ]
  (tmp_path / "attacks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  found = samples([str(tmp_path / "attacks.jsonl")])
  assert [(each.kind, each.asked) for each in found] == [
    ("gives in to an attack: prefilled", f"ask {i}") for i in (1, 2, 3)
  ]


def test_a_file_of_something_else_is_refused(tmp_path):
  (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n')
  with pytest.raises(InputError, match=r"rows.jsonl: cannot be read .*expected the answers of a measurement"):
    samples([str(tmp_path / "rows.jsonl"), "none"])
