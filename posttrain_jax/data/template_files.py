"""Finds the chat template of a model in Hugging Face's layout."""

import pathlib
from collections.abc import Mapping
from typing import Any

from posttrain_jax.models.huggingface import read_json
from posttrain_jax.types import InputError

_DEFAULT = "default"


def find_chat_template(directory: pathlib.Path, tokenizer_config: Mapping[str, Any]) -> str | None:
  """Returns the Jinja source of a model's chat template, or None if it has none.

  The first of these that exists is read: `chat_template.jinja` and the named ones in `additional_chat_templates/`;
  `chat_template` in `tokenizer_config.json`; `chat_template.json`. Of several templates it is "default". One that is
  alone may have any name.

  Args:
    directory: the model's directory.
    tokenizer_config: content of its `tokenizer_config.json`.

  Raises:
    InputError: if the template is malformed, or if there are several and none is called "default".
  """
  files = {_DEFAULT: directory / "chat_template.jinja"}
  files |= {file.stem: file for file in sorted((directory / "additional_chat_templates").glob("*.jinja"))}
  named = {name: file.read_text("utf-8") for name, file in files.items() if file.exists()}
  if named:
    return _choose(named, directory)
  found, where = tokenizer_config.get("chat_template"), directory / "tokenizer_config.json"
  if found is None and (directory / "chat_template.json").exists():
    where = directory / "chat_template.json"
    found = read_json(where).get("chat_template")
  if isinstance(found, list):
    if not all(isinstance(entry, dict) for entry in found):
      raise InputError(f"{where}: chat_template is a list of other things, expected objects with name and template")
    found = {entry.get("name"): entry.get("template") for entry in found}
  if isinstance(found, dict):
    found = _choose(found, where) if found else None
  if found is not None and not isinstance(found, str):
    raise InputError(f"{where}: chat_template is {type(found).__name__}, expected a string")
  return found


def _choose(named: Mapping[str, Any], where: pathlib.Path) -> Any:
  if len(named) > 1 and _DEFAULT not in named:
    raise InputError(
      f"{where}: chat templates are {', '.join(map(repr, named))}, expected one that is called 'default'"
    )
  return named[_DEFAULT] if _DEFAULT in named else next(iter(named.values()))
