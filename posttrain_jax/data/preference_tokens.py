"""Encodes a prompt and its answers, and counts the tokens that end each answer.

Prompt and answers are tokenised apart. If they are text, the prompt is tokenised as prompts of RL are, and an answer
ends with the tokeniser's end token. If they are a chat, the prompt ends with the header of the assistant's turn. An
answer is then the text that the chat template writes after that header, end-of-turn token included.
"""

import dataclasses
import functools
import itertools
from typing import NamedTuple

import numpy as np

from posttrain_jax.data import chat
from posttrain_jax.data.chat_template import Message
from posttrain_jax.data.preference_rows import BadRow, Judgement
from posttrain_jax.data.prompts import PromptFormat
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.types import InputError


class Encoded(NamedTuple):
  """Holds the token ids of a prompt and its K answers.

  Attributes:
    prompt: token ids.
    answers: K arrays, int32 [n].
    ends: K numbers of tokens that end the answers and are not words of them.
  """

  prompt: tuple[int, ...]
  answers: tuple[np.ndarray, ...]
  ends: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class AnswerEncoder:
  """Tokenises the prompts and answers of rows.

  Attributes:
    tokenizer: the model's tokeniser.
    prompt_format: how a prompt is rendered.
  """

  tokenizer: Tokenizer
  prompt_format: PromptFormat

  def encode(self, said: Judgement) -> Encoded:
    """Tokenises a row.

    Raises:
      BadRow: if a text cannot be tokenised, or the chat template refuses the messages.
      InputError: if the tokeniser has no chat template and one is needed, if its chat template cannot write an
        assistant's turn, or if there is a system message without a chat.
    """
    asked = self.prompt_format.ask(said.prompt)
    if isinstance(asked, str):
      return self._encode_text(asked, [answer["content"] for answer in said.answers])
    ending = self._ending  # outside of the `try`: a defect of the template is not a defect of the row
    try:
      return self._encode_chat(asked, said.answers, ending)
    except InputError as error:
      raise BadRow("cannot_be_encoded", str(error)) from None

  def _encode_text(self, prompt: str, answers: list[str]) -> Encoded:
    end = [] if self.tokenizer.eos_id is None else [self.tokenizer.eos_id]
    try:
      ids = tuple(self.tokenizer.encode(prompt, add_special_tokens=True))
      encoded = tuple(np.array(self.tokenizer.encode(answer) + end, np.int32) for answer in answers)
    except InputError as error:
      raise BadRow("cannot_be_encoded", str(error)) from None
    return Encoded(ids, encoded, (len(end),) * len(answers))

  def _encode_chat(self, messages: list[Message], answers: tuple[Message, ...], ending: str) -> Encoded:
    prompt = self._render(messages, add_generation_prompt=True)
    encoded, ends = [], []
    for answer in answers:
      text, (start, end) = self._last_turn([*messages, answer])
      # A prompt may contain more than the header that all turns share. With thinking off, Qwen3's prompt also has an
      # empty reasoning block. Then the model does not write that block, so it is not part of the answer.
      if text.startswith(prompt):
        start = len(prompt)
      words = text[start:end]
      ended = ending if ending and words.endswith(ending) else ""
      tail = self.tokenizer.encode(ended) if ended else []
      encoded.append(np.array(self.tokenizer.encode(words.removesuffix(ended)) + tail, np.int32))
      ends.append(len(tail))
    return Encoded(tuple(self.tokenizer.encode(prompt)), tuple(encoded), tuple(ends))

  @functools.cached_property
  def _ending(self) -> str:
    """Finds the text after an assistant's last words by rendering two test chats."""
    system = self.prompt_format.system
    before = [] if system is None else [{"role": "system", "content": system}]
    asked = [*before, {"role": "user", "content": "u"}]
    turns = []
    for words in ("a", "b"):
      text, (start, end) = self._last_turn([*asked, {"role": "assistant", "content": words}])
      turns.append(text[start:end])
      if words not in turns[-1]:
        raise InputError("chat template: it leaves out what the assistant says, expected one that writes its turns")
    alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*map(reversed, turns)))
    return "".join(letter for letter, _ in alike)[::-1]

  def _render(self, messages: list[Message], **options: bool) -> str:
    return chat.render(messages, self._template, **self._arguments, **options)

  def _last_turn(self, messages: list[Message]) -> tuple[str, tuple[int, int]]:
    text, spans = chat.assistant_spans(messages, self._template, **self._arguments)
    return text, spans[-1]

  @property
  def _template(self) -> str:
    if self.tokenizer.chat_template is None:
      raise InputError("chat: the tokeniser has no chat template")
    return self.tokenizer.chat_template

  @property
  def _arguments(self) -> dict:
    return self.tokenizer.special_tokens | self.prompt_format.chat_arguments
