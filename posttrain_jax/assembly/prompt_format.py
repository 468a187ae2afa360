"""Reads how a run asks: what prompts, demonstrations and comparisons have in common."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from posttrain_jax.assembly.model import is_run
from posttrain_jax.data.chat_words import LeftOut
from posttrain_jax.data.prompts import PromptFormat
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.local_path import local_path
from posttrain_jax.runs.settings import convert
from posttrain_jax.runs.workdir import CONFIG_FILE, read_json
from posttrain_jax.types import InputError

# Sections of a run's config that say how it asked, the first one that it has. PPO and GRPO have "prompts", supervised
# training has "demonstrations", DPO has "preferences".
_SECTIONS = ("prompts", "demonstrations", "preferences")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FormatSettings:
  """Holds a config's fields about how a text becomes what the model reads.

  Attributes:
    template: text around a prompt's text, which stands for {prompt}.
    chat: whether texts are rendered with the tokeniser's chat template; rows of messages always are.
    system: the system message of chats that have none; empty for none.
    chat_arguments: variables of the chat template, such as `enable_thinking`; None for none.
    left_out: action on words of a chat that the chat template leaves out; None is `LeftOut.ERROR`.
  """

  template: str
  chat: bool
  system: str
  chat_arguments: Mapping[str, Any] | None = None
  left_out: LeftOut | None = None

  @property
  def prompt_format(self) -> PromptFormat:
    """Returns the format as a record of `data.prompts`."""
    return PromptFormat(
      template=self.template,
      chat=self.chat,
      system=self.system or None,
      chat_arguments=self.chat_arguments or {},
      left_out=self.left_out or LeftOut.ERROR,
    )


def format_of_run(workdir: str | pathlib.Path) -> PromptFormat | None:
  """Returns the prompt format that a run was trained with; None if its config has none.

  Args:
    workdir: the run's directory, with config.json.

  Raises:
    InputError: if config.json cannot be read.
  """
  file = pathlib.Path(workdir) / CONFIG_FILE
  if not file.exists():
    return None
  config = read_json(workdir)
  section = next((config[name] for name in _SECTIONS if isinstance(config.get(name), Mapping)), {})
  names = [field.name for field in dataclasses.fields(FormatSettings)]
  found = {name: section[name] for name in names if section.get(name) is not None}
  if not {"template", "chat", "system"} <= set(found):
    return None
  return convert(FormatSettings, found, str(file)).prompt_format


def own_format(path: str, tokenizer: Tokenizer) -> PromptFormat:
  """Returns the format in which a model is to be asked.

  A run is asked as in its training. Any other model is asked by its chat template, if it has one, and otherwise by the
  text alone.

  Args:
    path: PATH_OR_NAME of the model.
    tokenizer: the model's.
  """
  asked = format_of_run(local_path(path)) if is_run(path) else None
  return asked or PromptFormat(chat=tokenizer.chat_template is not None)


def with_flags(asked: PromptFormat, flags: Mapping[str, Any]) -> PromptFormat:
  """Returns a format with the values that flags give.

  Args:
    asked: the format without flags.
    flags: values by the names of `FormatSettings`; None leaves a field as it is, and an empty "system" means none.
      "chat_arguments" is JSON.

  Raises:
    InputError: if chat_arguments is not a JSON object, or if the template has no {prompt}.
  """
  changes = {name: value for name, value in flags.items() if value is not None}
  if "chat_arguments" in changes:
    try:
      changes["chat_arguments"] = json.loads(changes["chat_arguments"])
    except ValueError as error:
      raise InputError(f"--chat_arguments: malformed JSON: {error}") from None
    if not isinstance(changes["chat_arguments"], dict):
      raise InputError(f"--chat_arguments={flags['chat_arguments']}: expected a JSON object")
  if "system" in changes:
    changes["system"] = changes["system"] or None
  if "left_out" in changes:
    changes["left_out"] = LeftOut(changes["left_out"])
  if changes.get("chat") is False:
    changes.setdefault("system", None)  # a run's system message needs a chat
  return dataclasses.replace(asked, **changes)
