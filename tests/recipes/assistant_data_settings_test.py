"""Tests that a wrong config of the assistant world's data is refused before a stage runs."""

import pytest

from configs.recipes import assistant
from posttrain_jax.types import InputError

COMPARED = dict(round=1, policies=dict(one=dict(path="candidates")))


def changed(config, **fields):
  for name, value in fields.items():
    config[name] = value
  return config


def compared(**fields):
  config = assistant.comparisons()
  del config.samples
  return changed(config, **{**COMPARED, **fields})


@pytest.mark.parametrize(
  ("runner", "config"),
  [
    (assistant.DEMONSTRATIONS, assistant.demonstrations(sum=1)),
    (assistant.PROMPTS, assistant.prompts(sum=1, fact=0)),
    (assistant.RANKINGS, assistant.rankings()),
    (assistant.COMPARISONS, compared()),
    (assistant.DOCUMENTS, assistant.documents(1)),
  ],
)
def test_a_config_of_the_recipes_is_right_and_one_with_another_field_is_not(runner, config):
  runner.check(config)
  with pytest.raises(InputError, match="no_such_field: unknown"):
    runner.check(changed(config, no_such_field=1))


@pytest.mark.parametrize(
  ("runner", "config", "message"),
  [
    (
      assistant.DEMONSTRATIONS,
      changed(assistant.demonstrations(sum=1), author="poet"),
      "author: 'poet', expected one of careful, helpful",
    ),
    (assistant.DEMONSTRATIONS, assistant.demonstrations(poem=1), "kinds.poem: unknown, expected some of fact, unknown"),
    (assistant.PROMPTS, assistant.prompts(fact=-1), "kinds.fact: -1, expected at least 0"),
    (assistant.PROMPTS, assistant.prompts(fact=0), "kinds: ask for no request"),
    (assistant.RANKINGS, changed(assistant.rankings(), least=1), "least: 1, expected at least 2"),
    (
      assistant.RANKINGS,
      changed(assistant.rankings(), least=5, most=4),
      "most: 4, expected at least as many as least = 5",
    ),
    (assistant.COMPARISONS, compared(edits=1.5), "edits: 1.5, expected a share from 0 to 1"),
    (assistant.COMPARISONS, compared(pairs=0), "pairs: 0, expected at least 1"),
    (assistant.COMPARISONS, compared(policies={}), "policies: found none, expected some"),
    (assistant.DOCUMENTS, assistant.documents(0), "documents: 0, expected at least 1"),
    (
      assistant.DOCUMENTS,
      changed(assistant.documents(1), world=dict(assistant.world(), animals=3)),
      "world.animals: 3, expected a number",
    ),
  ],
)
def test_a_wrong_config_is_refused(runner, config, message):
  with pytest.raises(InputError, match=message):
    runner.check(config)
