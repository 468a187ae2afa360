"""Tests how a collection asks its model, and which fields contradict each other."""

import pytest

from configs import tiny_collect, tiny_distillation, tiny_edited
from posttrain_jax.data.distillation import REFLECTION_PROMPT
from posttrain_jax.pipelines.collect_settings import EditedCollection, SampledCollection
from posttrain_jax.runs.settings import as_config, parse
from posttrain_jax.types import InputError


def settings(module=tiny_distillation, **changes):
  config = module.get_config()
  config.update_from_flattened_dict(changes)
  return parse(SampledCollection, config)


def test_rejection_sampling_asks_as_the_config_says():
  found = settings(tiny_collect)
  assert found.asking == found.prompts


def test_distillation_asks_a_chat_under_the_teachers_system_prompt():
  chat = settings(**{"prompts.chat": True})
  assert chat.asking.system == REFLECTION_PROMPT and chat.prompts.system == ""
  own = settings(**{"prompts.chat": True, "distillation.system": "Check."})
  assert own.asking.system == "Check."


def test_distillation_asks_text_with_the_teachers_words_before_it():
  assert settings().asking.template == "{prompt}"
  assert settings(**{"distillation.system": "Check. "}).asking.template == "Check. {prompt}"


def test_edited_answers_have_no_model():
  config = tiny_edited.get_config()
  assert as_config(parse(EditedCollection, config)) == config.to_dict()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"prompts.system": "x"}, "prompts.system: 'x', expected none"),
    ({"selection.keep": 2}, "selection.keep: 2, expected 1"),
    ({"distillation.original_template": "Answer"}, "distillation.original_template: 'Answer' has no '{original}'"),
    ({"rollout.samples": 0}, "rollout.samples: 0, expected at least 1"),
  ],
)
def test_what_is_refused(changes, message):
  with pytest.raises(InputError) as error:
    settings(**changes)
  assert str(error.value).startswith(message)


def test_distillation_needs_its_section():
  config = tiny_collect.get_config()
  config.source = "distillation"
  with pytest.raises(InputError, match=r"^distillation: missing"):
    parse(SampledCollection, config)
