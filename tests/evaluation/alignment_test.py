"""Tests the measures with an engine that says what an author writes, and a model that knows nothing."""

import collections
import dataclasses

import jax
import numpy as np
import pytest

from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.requests import TEMPLATE, RequestKind, WorldRequest
from posttrain_jax.data.prompts import PromptFormat
from posttrain_jax.evaluation import alignment
from posttrain_jax.evaluation.alignment_settings import AlignmentSettings, measure_names
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.types import Group, InputError
from tests.data.assistant_world.small_world import SETTINGS as WORLD_SETTINGS
from tests.data.assistant_world.small_world import WORLD
from tests.evaluation.alignment_settings_test import ENGLISH
from tests.evaluation.alignment_settings_test import WORLD as POLICY
from tests.pipelines.made_groups import answer
from tests.random_params import random_params

SETTINGS = AlignmentSettings(
  world=WORLD_SETTINGS, requests=6, sums=5, samples=2, max_new_tokens=48, slots=8, plain=6, prose=False, knowledge=True
)
TOKENIZER = POLICY.tokenizer


class Engine:
  """Answers as the author of `params` does."""

  def __init__(self, model, sampling, sizes, **settings):
    self.settings, self.writer = settings, AnswerWriter(WORLD, 0)

  def load(self, params, version):
    self.author = params

  def unload(self):
    pass

  def generate(self, prompts, samples):
    def said(prompt):
      tokens = TOKENIZER.encode(self.writer.answer(WorldRequest.from_row(prompt.row), self.author))
      return answer([*tokens, TOKENIZER.eos_id])

    return [Group(prompt, tuple(said(prompt) for _ in range(samples))) for prompt in prompts]


@pytest.fixture(scope="module")
def params():
  return random_params(POLICY.model)


@pytest.fixture
def measures(monkeypatch):
  monkeypatch.setattr(alignment, "Engine", Engine)
  mesh = make_mesh({}, jax.devices()[:1])
  return alignment.Alignment(SETTINGS, POLICY, PromptFormat(template=TEMPLATE), mesh, seed=0)


def test_authors_are_told_apart(measures, params):
  careful = measures(params, Author.CAREFUL, params)
  means = {name: value.mean for name, value in careful.measures.items()}
  assert list(careful.measures) == measure_names(SETTINGS)
  for part in ("seen", "held_out"):
    for name in (
      "answers",
      "facts",
      "sums",
      "sums_worked",
      "form",
      "harm_refused",
      "harm_explained",
      "unknown_hedged",
      "new_facts",
    ):
      assert means[f"{part}/{name}"] == 1, name
    for name in ("harm_complied", "over_refused", "known_hedged", "mixed", "asks_on", "hallucinated"):
      assert means[f"{part}/{name}"] == 0, name
  assert means["seen/disguises_refused"] == 1 and 0 < means["seen/distinct_1"] < 1
  assert 500 < means["perplexity"] < 10_000  # a model without knowledge: about as many as there are words
  assert means["known_held_out"] < 0.6 and 0 <= means["probability_ece"] <= 1
  assert np.isfinite(means["kl"])
  assert careful.flat()["seen/facts_low"] == 1
  line = next(line for line in careful.lines() if line["request"]["kind"] == "harm")
  assert line["verdict"]["refuses"] and "because" in line["completion"] and line["part"] == "seen"

  helpful = measures(params, Author.HELPFUL).measures
  assert helpful["seen/harm_complied"].mean == 1 and helpful["seen/harm_refused"].mean == 0
  assert "kl" not in helpful
  # The same model, so the same knowledge; and the same requests, so the same answers elsewhere.
  assert helpful["perplexity"] == careful.measures["perplexity"]
  assert helpful["held_out/facts"].mean == 1


def test_every_part_asks_every_kind(measures):
  for part, requests in measures._requests.items():
    assert {request.held_out for request in requests} == {part == "held_out"}
    count = collections.Counter(request.kind for request in requests)
    assert count == {kind: 5 if kind == RequestKind.SUM else 6 for kind in RequestKind}


def test_the_reference_must_be_the_same_kind_of_model():
  other = dataclasses.replace(POLICY, model=dataclasses.replace(POLICY.model, num_layers=2))
  with pytest.raises(InputError, match="reference: is a model of other sizes"):
    alignment.measure_policy(POLICY, SETTINGS, PromptFormat(), reference=other)


def test_what_follows_a_stop_is_no_part_of_an_answer(monkeypatch, params):
  made = []

  class Talking(Engine):
    def __init__(self, model, sampling, sizes, **settings):
      super().__init__(model, sampling, sizes, **settings)
      made.append((sampling, settings["decode"]))

    def generate(self, prompts, samples):
      tokens = TOKENIZER.encode("i do not know . user : what is 3 + 4 ?")
      return [Group(prompt, (answer([*tokens]),) * samples) for prompt in prompts]

  monkeypatch.setattr(alignment, "Engine", Talking)
  mesh = make_mesh({}, jax.devices()[:1])
  for stop, text in (("user :", "i do not know ."), ("", "i do not know . user : what is 3 + 4 ?")):
    given = alignment.Alignment(SETTINGS, POLICY, PromptFormat(template=TEMPLATE), mesh, seed=0, stop=stop)
    assert made[-1][0].stop_strings == ((stop,) if stop else ()) and made[-1][1] is not None
    found = given._judge(given._engine.generate(given._prompts, 1))
    assert {each.texts for part in found.values() for each in part} == {(text,)}


def test_a_model_of_english_is_asked_in_english_alone(monkeypatch):
  monkeypatch.setattr(alignment, "Engine", Engine)
  mesh = make_mesh({}, jax.devices()[:1])
  settings = dataclasses.replace(SETTINGS, prose=True)
  given = alignment.Alignment(settings, ENGLISH, PromptFormat(chat=True), mesh, seed=0)
  requests = [request for each in given._requests.values() for request in each]
  assert {request.language for request in requests} == {"english"} and {each.kind for each in requests} == {
    *RequestKind
  }
  assert not any(" ?" in request.text for request in requests)  # answers are kept with what was asked
  asked = [ENGLISH.tokenizer.decode(prompt.tokens) for prompt in given._prompts]
  assert all("assistant" in text for text in asked)  # the chat template's
  assert any("What is" in text for text in asked) and not any(" ?" in text for text in asked)


def test_what_likelihoods_tell_may_be_left_out(monkeypatch, params):
  monkeypatch.setattr(alignment, "Engine", Engine)
  mesh = make_mesh({}, jax.devices()[:1])
  settings = dataclasses.replace(SETTINGS, knowledge=False)
  found = alignment.Alignment(settings, POLICY, PromptFormat(template=TEMPLATE), mesh, seed=0)(params, Author.CAREFUL)
  assert found.measures["seen/facts"].mean == 1
  assert not [name for name in found.measures if name.startswith(("known", "probability", "perplexity"))]
  assert len(found.claims["probability"].probabilities) == 0 and found.diagrams()
