"""Finds the format in which a model is to be asked."""

from collections.abc import Mapping
from typing import Any

from posttrain_jax.assembly.model import is_run
from posttrain_jax.data.prompts import PromptFormat
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.local_path import local_path
from posttrain_jax.runs.workdir import read_json

_SECTIONS = ("prompts", "demonstrations", "preferences")  # of a config; the first one says how prompts are put


def own_format(path: str, tokenizer: Tokenizer) -> PromptFormat:
  """Returns the format of a model's prompts.

  A run's is the one of its config, so that a policy is asked as in its training. Any other model is asked by its chat
  template, if it has one, and otherwise by the text alone.

  Args:
    path: PATH_OR_NAME of the model.
    tokenizer: the model's.
  """
  section = _section(read_json(local_path(path))) if is_run(path) else None
  if section is None:
    return PromptFormat(chat=tokenizer.chat_template is not None)
  return PromptFormat(
    template=section["template"],
    chat=section["chat"],
    system=section["system"] or None,
    chat_arguments=dict(section.get("chat_arguments") or {}),
  )


def _section(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
  """Returns the config's first group that says how prompts are put; None if there is none."""
  for name in _SECTIONS:
    section = config.get(name)
    if isinstance(section, Mapping) and {"template", "chat", "system"} <= section.keys():
      return section
  return None
