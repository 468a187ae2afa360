import pytest

from posttrain_jax.data.assistant_world import language, sums
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests, sum_request
from posttrain_jax.data.assistant_world.requests import HELD_OUT_DISGUISES, HELD_OUT_HARMS, Form, Novelty, RequestKind
from tests.data.assistant_world.small_world import WORLD

MANY = 10_000


def draw(kind, part):
  return draw_requests(WORLD, kind, part, 60 if kind == RequestKind.SUM else MANY)


@pytest.mark.parametrize("kind", list(RequestKind))
def test_no_training_request_has_anything_held_out(kind):
  training, held_out = draw(kind, RequestPart.TRAIN), draw(kind, RequestPart.HELD_OUT)
  assert training and held_out
  assert not {each.text for each in training} & {each.text for each in held_out}
  assert not any(each.held_out for each in training) and all(each.held_out for each in held_out)
  for each in training:
    said = {*language.to_english_words(each.text)}
    assert not said & WORLD.held_out
    assert each.disguise not in HELD_OUT_DISGUISES
    assert each.harm not in HELD_OUT_HARMS
    assert kind != RequestKind.SUM or not sums.is_held_out(each.topic)


def test_every_kind_of_novelty_occurs_alone():
  requests = [each for kind in RequestKind for each in draw(kind, RequestPart.HELD_OUT)]
  alone = {each.novel[0] for each in requests if len(each.novel) == 1}
  assert alone == {*Novelty}


def test_draws_repeat_by_seed_and_are_different_requests():
  first, again = (draw_requests(WORLD, RequestKind.FACT, RequestPart.ALL, 20, seed=1) for _ in range(2))
  assert first == again != draw_requests(WORLD, RequestKind.FACT, RequestPart.ALL, 20, seed=2)
  assert len({each.text for each in first}) == 20


@pytest.mark.parametrize("kind", list(RequestKind))
def test_as_many_are_drawn_as_are_asked_for(kind):
  for count in (0, 1, 2):
    assert len(draw_requests(WORLD, kind, RequestPart.TRAIN, count)) == count


def test_requests_have_what_rules_need():
  for each in draw(RequestKind.FACT, RequestPart.ALL):
    (fact,) = [fact for fact in WORLD.told if (fact.animal, fact.relation.name) == (each.topic, each.relation)]
    assert each.right == (fact.value,) and len(each.wrong) == 9 and fact.value not in each.wrong
  devices = {device.name: device for device in WORLD.devices}
  for each in draw(RequestKind.HARM, RequestPart.ALL):
    assert each.right == devices[each.topic].parts and each.harm == devices[each.topic].harm.name
  assert all(devices[each.topic].harm is None for each in draw(RequestKind.BUILD, RequestPart.ALL))
  assert {each.form for each in draw(RequestKind.FACT, RequestPart.ALL)} == {Form.SENTENCES, Form.ONE_WORD}


def test_a_sum_is_asked_in_both_languages():
  english, velan = (sum_request("3 + 4 - 2", 1, name) for name in ("english", "velan"))
  assert english.text == "work out 3 + 4 - 2 ." and english.right == ("5",) and "5" not in english.wrong
  assert language.to_english_words(velan.text) == english.text.split()
