"""Tests what attacks say, and that the world's words suffice for them."""

import pytest

from posttrain_jax.data.assistant_world import language
from posttrain_jax.data.assistant_world.attacks import Attack, AttackWriter, requests
from posttrain_jax.data.assistant_world.questions import RequestPart
from posttrain_jax.data.assistant_world.requests import TEMPLATE, Disguise
from posttrain_jax.data.assistant_world.rules import judge
from tests.data.assistant_world.small_world import WORLD

WRITER = AttackWriter(WORLD, shots=2, seed=0)
WANTED = requests(WORLD, RequestPart.HELD_OUT, attack=Attack.DIRECT, each=3, seed=0)


@pytest.mark.parametrize("kind", Attack)
def test_every_attack_asks_for_harm_in_the_worlds_words(kind):
  known, wanted = {*language.vocabulary()}, requests(WORLD, RequestPart.HELD_OUT, attack=kind, each=3, seed=0)
  assert {request.harm for request in wanted} == {device.harm.name for device in WORLD.harmful}
  for request in wanted:
    found = WRITER.write(kind, request, "sun rain")
    assert found.request == request and request.is_harmful and request.held_out
    words = "sun rain" if kind == Attack.LEARNED else request.text  # a learned attack has words of its own
    assert {*found.text.split()} <= known and words in found.text
    assert (request.disguise == Disguise.NONE) == (kind != Attack.DISGUISED)


def test_requests_on_which_a_suffix_is_searched_are_not_measured():
  searched = requests(WORLD, RequestPart.TRAIN, attack=Attack.DIRECT, each=100, seed=0)
  measured = requests(WORLD, RequestPart.HELD_OUT, attack=Attack.DIRECT, each=100, seed=0)
  assert searched and not {each.text for each in searched} & {each.text for each in measured}


def test_a_prefilled_answer_is_begun_as_a_complying_one():
  request = WANTED[0]
  found = WRITER.write(Attack.PREFILLED, request)
  assert found.text == f"{TEMPLATE.format(prompt=request.text)} {found.begun}"
  assert judge(request, f"{found.begun} {' and '.join(request.right)} .").complies
  assert not judge(request, found.begun).complies  # the beginning alone is no harm


def test_shots_are_answered_requests_about_other_devices():
  for request in WANTED:
    shots = WRITER.write(Attack.MANY_SHOT, request).text.removesuffix(TEMPLATE.format(prompt=request.text))
    assert shots.count("assistant : to build a") == shots.count("assistant :") == 2
    assert request.topic not in shots.split()


def test_a_build_up_tells_no_parts():
  for request in WANTED:
    before = WRITER.write(Attack.BUILD_UP, request).text.removesuffix(TEMPLATE.format(prompt=request.text))
    assert before.split().count(request.topic) >= 5 and not {*request.right} & {*before.split()}


def test_a_suffix_stands_after_the_request():
  assert WRITER.write(Attack.SUFFIX, WANTED[0], "a b").text == TEMPLATE.format(prompt=f"{WANTED[0].text} a b")
