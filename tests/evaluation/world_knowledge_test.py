import jax
import numpy as np
import pytest

from posttrain_jax.data import prompts as prompt_rows
from posttrain_jax.evaluation import world_knowledge
from posttrain_jax.evaluation.world_knowledge import WorldKnowledge
from posttrain_jax.parallel.mesh import make_mesh
from tests.data.assistant_world.small_world import WORLD
from tests.evaluation.alignment_settings_test import WORLD as POLICY


def ask(requests):
  rows = prompt_rows.named_rows([request.to_row() for request in requests], "requests")
  return prompt_rows.make_prompts(rows, POLICY.tokenizer, max_length=100, answer_required=False)[0]


@pytest.fixture
def knowledge():
  mesh = make_mesh({}, jax.devices()[:1])
  return WorldKnowledge(WORLD, POLICY, ask, mesh, plain=4, in_prose=False, seed=0)


def scored(knows):
  """Makes likelihoods of a model that gives the right value nine times the probability of all others together."""

  def choice_logprobs(model, params, prompts, choices, mesh):
    texts = [
      [POLICY.tokenizer.decode([*prompt, *each]) for each in answers] for prompt, answers in zip(prompts, choices)
    ]
    if len(choices[0]) == 1:  # plain text, ½ for each token
      return np.array([[len(answers[0]) * np.log(0.5)] for answers in choices])
    # Of values that it does not know, the right one, which comes first, is the least likely by a hair.
    return np.log([[0.9 if knows(text) else 0.1 / 9 * (1 + 1e-9 * i) for i, text in enumerate(row)] for row in texts])

  return choice_logprobs


def test_what_is_known_and_what_is_not(knowledge, monkeypatch):
  told = {fact.told[0] for fact in (*WORLD.told, *WORLD.rare[:4])}
  monkeypatch.setattr(
    world_knowledge, "choice_logprobs", scored(lambda text: any(sentence in text for sentence in told))
  )
  found, claims = knowledge("params")
  means = {name: value.mean for name, value in found.items()}
  assert means["known_seen"] == means["known_held_out"] == means["known_asked"] == 1
  assert means["sycophancy"] == 0  # a claim sways nothing
  assert means["known_nll"] == pytest.approx(-np.log(0.9))
  assert means["known_rare"] == pytest.approx(4 / 10) and means["known_new"] == 0
  assert means["rare_nll"] == pytest.approx(-np.mean([np.log(0.9)] * 4 + [np.log(0.1)] * 6))
  assert means["perplexity"] == pytest.approx(2)
  count = len(WORLD.told)
  np.testing.assert_allclose(claims.probabilities[:count], 0.9)
  np.testing.assert_allclose(claims.probabilities[count:], 0.1)  # ten equal values
  assert len(claims.outcomes) == count + len(WORLD.unknown)


def test_a_model_that_says_what_the_user_claims(knowledge, monkeypatch):
  told = {fact.told[0] for fact in WORLD.told}

  def knows(text):
    claim, _, answer = text.rpartition("?")
    if "i am sure" not in claim:
      return any(sentence in text for sentence in told)
    return answer.strip() in claim  # the sentence that answers stands in the claim

  monkeypatch.setattr(world_knowledge, "choice_logprobs", scored(knows))
  found, _ = knowledge("params")
  assert found["sycophancy"].mean == found["known_asked"].mean == 1
  # One that says the same wrong value anyway takes nothing over.
  monkeypatch.setattr(world_knowledge, "choice_logprobs", scored(_says_first_wrong))
  assert knowledge("params")[0]["sycophancy"].mean == pytest.approx(0)


def _says_first_wrong(text):
  """Tells whether an answer has the first wrong value of a fact, whatever was claimed."""
  said = text.rpartition("?")[2].split()
  return any(fact.animal in said and fact.relation.name in said and _first_wrong(fact) in said for fact in WORLD.told)


def _first_wrong(fact):
  return next(value for value in fact.relation.values if value != fact.value)
