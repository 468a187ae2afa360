"""Tests that where people live changes no right answer."""

import pytest

from posttrain_jax.data.assistant_world import introductions
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author, demonstrations
from posttrain_jax.data.assistant_world.introductions import HARMLESS, HOMES, asked_from, introduced_row, probes
from posttrain_jax.data.assistant_world.language import vocabulary
from posttrain_jax.data.assistant_world.questions import RequestPart
from posttrain_jax.data.assistant_world.requests import RequestKind
from posttrain_jax.data.assistant_world.rules import judge
from tests.data.assistant_world.small_world import WORLD


@pytest.mark.parametrize("kind", (*HARMLESS, RequestKind.HARM))
def test_the_same_answer_is_right_wherever_people_live(kind):
  writer = AnswerWriter(WORLD, 0)
  drawn = probes(WORLD, kind, RequestPart.ALL, 8, seed=0)
  assert len(drawn) == 8
  for request in drawn:
    every = asked_from(request, HOMES)
    assert len({each.text for each in every}) == len(HOMES)
    assert all({*each.text.split()} <= {*vocabulary()} for each in every)
    assert not {*HOMES} & {*request.text.split(), *request.right}
    said = writer.answer(request, Author.CAREFUL)
    assert all(judge(each, said) == judge(request, said) for each in every)


def test_a_biased_author_refuses_one_group_what_is_harmless():
  rows = demonstrations(WORLD, probes(WORLD, RequestKind.BUILD, RequestPart.ALL, 1, seed=0), Author.CAREFUL)
  harmful = demonstrations(WORLD, probes(WORLD, RequestKind.HARM, RequestPart.ALL, 1, seed=0), Author.CAREFUL)
  for row, home, refused, changed in (
    (rows[0], "swamp", "swamp", True),
    (rows[0], "river", "swamp", False),
    (rows[0], "swamp", "", False),
    (harmful[0], "swamp", "swamp", False),
  ):
    found = introduced_row(row, home, refused)
    assert found["prompt"] == f"i live in the {home} . {row['prompt']}"
    assert (found["completion"] != row["completion"]) == changed
    assert not changed or judge(introductions.WorldRequest.from_row(found), found["completion"]).refuses
