"""Finds the ids that end an answer, in everything that a model says about them.

A model's files and its chat template may disagree. A base tokeniser ends texts with `<|endoftext|>`, and the template
that it is trained with may end turns with `<|im_end|>`. Each of these ids ends an answer.
"""

import pathlib
from typing import Any

import tokenizers
from absl import logging

from posttrain_jax.data.chat_template import turn_endings
from posttrain_jax.models.huggingface import read_json
from posttrain_jax.types import InputError

# Files that have ids, and files that have texts. A file that is missing says nothing.
_WITH_IDS = ("generation_config.json", "config.json")
_WITH_TEXTS = ("tokenizer_config.json", "special_tokens_map.json")


def declared_stops(directory: pathlib.Path, backend: tokenizers.Tokenizer) -> list[int]:
  """Reads the ids that a Hugging Face directory's files name as ends.

  Args:
    directory: may have `tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json` and `config.json`.
    backend: the tokeniser.

  Returns:
    The ids without repetition, in the order of these files.

  Raises:
    InputError: if a file is malformed, or if `generation_config.json` or a text names a token that the tokeniser does
      not have. Such an id in `config.json` is ignored with a warning, as many published files have one there.
  """
  found = []
  for name in _WITH_TEXTS:
    stop = special_id(backend, directory / name, "eos_token")
    found += [] if stop is None else [stop]
  for name in _WITH_IDS:
    file = directory / name
    stops = read_json(file).get("eos_token_id") if file.exists() else None
    for stop in [] if stops is None else stops if isinstance(stops, list) else [stops]:
      known = isinstance(stop, int) and not isinstance(stop, bool) and stop >= 0 and backend.id_to_token(stop)
      if known:
        found.append(stop)
      elif name == "config.json":
        logging.warning("%s: eos_token_id has %r, which is not an id of the tokeniser; ignored", file, stop)
      else:
        raise InputError(f"{file}: eos_token_id has {stop!r}, which is not an id of the tokeniser")
  return list(dict.fromkeys(found))


def special_id(backend: tokenizers.Tokenizer, file: pathlib.Path, key: str) -> int | None:
  """Returns the id of a special token that a file names; None if it names none.

  Raises:
    InputError: if the file is malformed, or if the tokeniser does not have the token.
  """
  token: Any = read_json(file).get(key) if file.exists() else None
  if isinstance(token, dict):  # a serialised AddedToken
    token = token.get("content")
  if token is None:
    return None
  found = backend.token_to_id(token) if isinstance(token, str) else None
  if found is None:
    raise InputError(f"{file}: {key} is {token!r}, which is not a token of tokenizer.json")
  return found


def taught_stops(template: str | None, backend: tokenizers.Tokenizer, special_tokens: dict[str, str]) -> list[int]:
  """Finds the tokens that a chat template writes after an assistant's words.

  A model that is trained with the template learns to draw them. White space around them is not counted. If an ending
  is several tokens, its first one counts if it is an added token, such as `<|im_end|>`.

  Args:
    template: Jinja source; None for none.
    backend: the tokeniser.
    special_tokens: texts of the special tokens by the names in templates.

  Returns:
    The ids, none if the template has no such token, or writes no assistant's turn.
  """
  added = backend.get_added_tokens_decoder()
  found = []
  for ending in [] if template is None else turn_endings(template, special_tokens):
    try:
      ids = backend.encode(ending.strip(), add_special_tokens=False).ids
    except Exception:  # a closed vocabulary without these characters
      continue
    ids = [i for i in ids if backend.decode([i], skip_special_tokens=False).strip()]  # not the space of a Metaspace
    if ids and (len(ids) == 1 or ids[0] in added):
      found.append(ids[0])
  return list(dict.fromkeys(found))
