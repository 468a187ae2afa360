"""Converts text to token ids and back.

A `Tokenizer` holds a `tokenizers.Tokenizer` and the few facts about it that training needs. On disk it has Hugging
Face's layout: `tokenizer.json`, `tokenizer_config.json`, and `generation_config.json` for further stop ids.
`model_tokenizer` loads that of a public checkpoint, `vocabularies` makes new ones.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tokenizers

from posttrain_jax.data.stop_ids import declared_stops, special_id, taught_stops
from posttrain_jax.data.template_files import find_chat_template
from posttrain_jax.models.huggingface import read_json
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """Holds a tokeniser and the meaning of its special ids.

  Attributes:
    backend: the tokeniser of the package `tokenizers`.
    bos_id: id that starts a sequence; None if the model has none.
    eos_id: id that ends an answer; None if the model has none.
    pad_id: id on padding; None if the model has none. It may equal `eos_id`, because masks do not depend on ids.
    stop_ids: all ids that end an answer: `eos_id` if there is one, what the model's files name, and the tokens after
      an assistant's turn as the chat template writes them.
    chat_template: Jinja source that turns messages into text (`data.chat`); None if the model has none.
  """

  backend: tokenizers.Tokenizer
  bos_id: int | None = None
  eos_id: int | None = None
  pad_id: int | None = None
  stop_ids: tuple[int, ...] = ()
  chat_template: str | None = None

  def __post_init__(self):
    """Turns off cutting and padding, which a saved tokeniser may have switched on."""
    self.backend.no_truncation()
    self.backend.no_padding()

  @property
  def vocab_size(self) -> int:
    """Returns the largest id plus one, which is the minimum vocabulary size of a model."""
    return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

  def absent_ids(self, vocab_size: int) -> tuple[tuple[int, int], ...]:
    """Returns the ids below `vocab_size` that have no token, as ranges [start, end)."""
    present = sorted({*self.backend.get_vocab(with_added_tokens=True).values(), -1, vocab_size})
    return tuple((before + 1, after) for before, after in itertools.pairwise(present) if before + 1 < after)

  @property
  def special_tokens(self) -> dict[str, str]:
    """Returns the texts of the special tokens by the names in chat templates."""
    ids = {"bos_token": self.bos_id, "eos_token": self.eos_id, "pad_token": self.pad_id}
    return {name: self.backend.id_to_token(i) for name, i in ids.items() if i is not None}

  def is_special(self, token: int) -> bool:
    """Says whether an id is that of a special token, such as `<|im_end|>`."""
    added = self.backend.get_added_tokens_decoder().get(token)
    return added is not None and added.special

  def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
    """Encodes a text as token ids.

    If the name of a control token occurs in the text, it becomes that control token.

    Args:
      text: the text.
      add_special_tokens: adds the tokens that the tokeniser puts around a text (Llama 3: BOS). Leave it False for
        chats, because chat templates write these tokens themselves.

    Raises:
      InputError: if a closed vocabulary has no token for a part of the text.
    """
    try:
      return self.backend.encode(text, add_special_tokens=add_special_tokens).ids
    except Exception as error:
      unknown = self._unknown(text)
      raise InputError(
        f"tokenizer: {unknown}, in {shorten(text)}: it knows only the text of the procedural task, "
        f"{self._alphabet()}; model.vocabulary=bytes reads any text (configs/own_task.py)"
        if unknown
        else f"tokenizer: {error}, in {shorten(text)}"
      ) from None

  def encode_prompt(self, text: str) -> list[int]:
    """Encodes a prompt, with the tokens that the tokeniser puts before a text.

    A token that the text itself begins with, such as BOS, is not put before it again. What the tokeniser puts after a
    text, such as an end token, is left out, because the answer goes on there.

    Raises:
      InputError: as in `encode`.
    """
    ids, own = self.encode(text, add_special_tokens=True), self.encode(text)
    starts = range(len(ids) - len(own) + 1)
    start = next((i for i in starts if ids[i : i + len(own)] == own), None)
    if start is None:
      return ids
    return own if start and own[:start] == ids[:start] else ids[: start + len(own)]

  def encode_pieces(self, pieces: Sequence[str], *, prompt: bool = False) -> list[list[int]]:
    """Encodes pieces of one text, such as a prompt and its answer.

    No token crosses from one piece to the next.

    Most tokenisers encode each piece by itself. Those that put a space before every text (Metaspace, as Llama 2's)
    would put one before each piece. So their pieces are cut out of the ids of the whole text.

    Args:
      pieces: joined, they are the text.
      prompt: encodes the beginning as `encode_prompt` does.

    Returns:
      The ids of each piece.

    Raises:
      InputError: as in `encode`, or if a tokeniser that puts a space before a text joins the end of a piece with the
        beginning of the next one.
    """
    encode = self.encode_prompt if prompt else self.encode
    if not self._puts_space_before:
      return [(encode if i == 0 else self.encode)(piece) for i, piece in enumerate(pieces)]
    found, text, ids = [], "", []
    for piece in pieces:
      text += piece
      whole = encode(text) if text else []
      if whole[: len(ids)] != ids:
        raise InputError(
          f"tokenizer: puts a space before every text, and joins {shorten(text[: -len(piece)][-20:])} with "
          f"{shorten(piece)}; expected a text that is cut between tokens, for instance before a space and not after it"
        )
      found.append(whole[len(ids) :])
      ids = whole
    return found

  def without_end(self, text: str) -> str:
    """Returns an answer without the end tokens at its end, and white space after these."""
    ends = [end for i in self.stop_ids if (end := self.backend.id_to_token(i)) and end.strip()]
    while True:
      end = next((end for end in ends if text.rstrip().endswith(end)), None)
      if end is None:
        return text
      text = text.rstrip().removesuffix(end)

  @functools.cached_property
  def _puts_space_before(self) -> bool:
    """Says whether a text's first token has a space that the text does not have."""
    text = "a" if self.backend.normalizer is None else self.backend.normalizer.normalize_str("a")
    pieces = [] if self.backend.pre_tokenizer is None else self.backend.pre_tokenizer.pre_tokenize_str(text)
    return (pieces[0][0] if pieces else text)[:1] in ("▁", "Ġ", " ")

  def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = False) -> str:
    """Decodes token ids to text.

    Ids without a token give no text. A model can produce them if its vocabulary is padded.
    """
    return self.backend.decode([int(i) for i in ids], skip_special_tokens=skip_special_tokens)

  def digest(self) -> str:
    """Computes the sha256 of all that determines ids and chat text, as 64 hexadecimal digits."""
    parts = [json.loads(self.backend.to_str()), self._facts()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

  def save(self, directory: str | pathlib.Path) -> None:
    """Writes the files that `load` reads."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    self.backend.save(str(directory / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    config |= self.special_tokens
    if self.chat_template is not None:
      config["chat_template"] = self.chat_template
    _write_json(directory / "tokenizer_config.json", config)
    generation = {"bos_token_id": self.bos_id, "eos_token_id": list(self.stop_ids), "pad_token_id": self.pad_id}
    _write_json(directory / "generation_config.json", {k: v for k, v in generation.items() if v not in (None, [])})

  @classmethod
  def load(cls, directory: str | pathlib.Path) -> "Tokenizer":
    """Reads a tokeniser in Hugging Face's layout.

    Args:
      directory: must have `tokenizer.json` and `tokenizer_config.json`. `data.template_files` says where a
        chat template may be, and `data.stop_ids` where the stop ids are found.

    Raises:
      InputError: if a file is missing or malformed, or if a special token is not in the vocabulary.
    """
    directory = pathlib.Path(directory)
    file, config_file = directory / "tokenizer.json", directory / "tokenizer_config.json"
    if not file.exists():
      raise InputError(f"{file}: no such file")
    try:
      backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:
      raise InputError(f"{file}: not a tokeniser: {error}") from None
    config = read_json(config_file)
    # `tokenizer_config.json` comes first; old checkpoints have these tokens in `special_tokens_map.json` only.
    files = (config_file, directory / "special_tokens_map.json")
    bos_id, eos_id, pad_id = (
      next((found for file in files if (found := special_id(backend, file, key)) is not None), None)
      for key in ("bos_token", "eos_token", "pad_token")
    )
    stop_ids = tuple(declared_stops(directory, backend))
    found = cls(backend, bos_id, eos_id, pad_id, stop_ids, find_chat_template(directory, config))
    return found.with_taught_stops()

  def with_taught_stops(self) -> "Tokenizer":
    """Returns the tokeniser with the tokens that its chat template teaches as ends among `stop_ids`."""
    taught = taught_stops(self.chat_template, self.backend, self.special_tokens)
    return dataclasses.replace(self, stop_ids=tuple(dict.fromkeys([*self.stop_ids, *taught])))

  def _unknown(self, text: str) -> str | None:
    """Describes the first piece of a text that has no token."""
    if isinstance(text, str) and self.backend.pre_tokenizer is not None:
      for piece, (start, _) in self.backend.pre_tokenizer.pre_tokenize_str(text):
        if self.backend.token_to_id(piece) is None:
          return f"no token for {shorten(piece)} at character {start}"
    return None

  def _alphabet(self) -> str:
    """Describes a closed vocabulary, which refuses other text."""
    tokens = sorted(self.backend.get_vocab(), key=self.backend.token_to_id)
    special = self.special_tokens.values()
    return shorten("".join(token for token in tokens if token not in special), 120)

  def _facts(self) -> dict[str, Any]:
    return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "backend"}


def shorten(text: Any, length: int = 40) -> str:
  """Returns a value as messages show it, cut after some characters."""
  return repr(text) if len(repr(text)) <= length else f"{repr(text)[:length]}..."


def _write_json(path: pathlib.Path, value: Mapping[str, Any]) -> None:
  path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
