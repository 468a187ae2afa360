"""Tests what a principle's fit is made of; hand-made logprobs stand for the critic."""

import numpy as np
import pytest

from configs.recipes.constitutional_ai import CONSTITUTION
from posttrain_jax.data.assistant_world import critiques
from posttrain_jax.data.constitution import Constitution, read_constitution
from posttrain_jax.recipes import principle_fit
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import WORLD

WHOLE = read_constitution(CONSTITUTION)


def test_a_fit_is_what_knowing_adds_to_a_principles_logprob():
  principles = principle_fit.about_harm(WHOLE)[:2]
  requests = critiques.red_team(WORLD)[:2]
  known = [f"a {request.topic} is not safe because fire hurts people" for request in requests]

  def logprobs(texts, endings):
    assert all(text.endswith(" . principle :") for text in texts) and len(endings) == 1
    fire = "fire" in endings[0]
    return np.array([[-2.0 if fire and "fire" in text else -5.0 if fire else -4.0] for text in texts])

  found = principle_fit.fits(logprobs, requests, known, principles)
  np.testing.assert_allclose(found, [[3.0, 0.0], [3.0, 0.0]])


def test_the_best_principle_speaks_if_it_fits_at_all():
  assert principle_fit.speaking(np.array([0.5, 2.0, 1.5])) == 1
  assert principle_fit.speaking(np.array([0.5, 0.9, -1.0])) is None


def test_principles_about_harm():
  assert [each.number for each in principle_fit.about_harm(WHOLE)] == [2, 3, 4, 5]
  with pytest.raises(InputError, match="no principle is about a category of harm"):
    principle_fit.about_harm(Constitution(WHOLE.priorities, WHOLE.principles[5:]))
