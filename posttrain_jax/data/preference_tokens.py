"""Encodes a prompt and its answers, and counts the tokens that end each answer.

Prompt and answers are tokenised apart. If they are text, the prompt is tokenised as prompts of RL are, and an answer
ends with the tokeniser's end token. If they are a chat, the prompt ends with the header of the assistant's turn. An
answer is then the text that the chat template writes after that header, end-of-turn token included.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from posttrain_jax.data import chat
from posttrain_jax.data.chat_template import Message
from posttrain_jax.data.chat_words import LeftOut, WordsLeftOut, check_words
from posttrain_jax.data.preference_rows import BadRow, Judgement
from posttrain_jax.data.prompts import PromptFormat, refuse_tools
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.types import InputError

Tools = Sequence[Mapping[str, Any]] | None


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
    texts = [self.tokenizer.without_end(answer.get("content") or "") for answer in said.answers]
    for i, (text, answer) in enumerate(zip(texts, said.answers)):
      if chat.is_empty({**answer, "content": text}):
        raise BadRow("empty_answer", f"answer {i} is empty, expected words of the assistant")
    if isinstance(asked, str):
      return self._encode_text(asked, texts, said.tools)
    ending = self._ending  # outside of the `try`: a defect of the template is not a defect of the row
    answers = [{**answer, "content": text} for text, answer in zip(texts, said.answers)]
    try:
      return self._encode_chat(asked, answers, ending, said.tools)
    except WordsLeftOut as error:
      raise BadRow("left_out_by_template", str(error)) from None
    except InputError as error:
      raise BadRow("cannot_be_encoded", str(error)) from None

  def _encode_text(self, prompt: str, answers: list[str], tools: Tools) -> Encoded:
    end = [] if self.tokenizer.eos_id is None else [self.tokenizer.eos_id]
    try:
      refuse_tools(tools)
      pairs = [self.tokenizer.encode_pieces([prompt, answer], prompt=True) for answer in answers]
    except InputError as error:
      raise BadRow("cannot_be_encoded", str(error)) from None
    encoded = tuple(np.array(answer + end, np.int32) for _, answer in pairs)
    return Encoded(tuple(pairs[0][0]), encoded, (len(end),) * len(answers))

  def _encode_chat(self, messages: list[Message], answers: list[Message], ending: str, tools: Tools) -> Encoded:
    strict = self.prompt_format.left_out == LeftOut.ERROR
    arguments = {**self.prompt_format.chat_arguments, "tools": tools}
    header, begun = chat.prompt_pieces(messages, self.tokenizer, left_out=self.prompt_format.left_out, **arguments)
    prompt, encoded, ends = header + begun, [], []
    before = messages[:-1] if messages[-1]["role"] == "assistant" else messages  # answers go on in that turn
    for answer in answers:
      said = [*before, {**answer, "content": begun + (answer.get("content") or "")}]
      text, (start, end) = self._last_turn(said, tools)
      if strict:
        check_words(said, text, learned={len(said) - 1: text[start:end]})
      # A prompt may contain more than the header that all turns share. With thinking off, Qwen3's prompt also has an
      # empty reasoning block. Then the model does not write that block, so it is not part of the answer.
      if text.startswith(prompt):
        start = len(prompt)
      elif begun:
        raise InputError("chat template: changes the beginning of the assistant's turn that belongs to the prompt")
      words = text[start:end]
      ended = ending if ending and words.endswith(ending) else ""
      pieces = [text[:start] if begun == "" else header, begun, words.removesuffix(ended), ended]
      *asked, spoken, tail = self.tokenizer.encode_pieces(pieces)
      encoded.append(np.array(spoken + tail, np.int32))
      ends.append(len(tail))
    asked = self.tokenizer.encode_pieces([header, begun])
    return Encoded(tuple(itertools.chain.from_iterable(asked)), tuple(encoded), tuple(ends))

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

  def _last_turn(self, messages: list[Message], tools: Tools = None) -> tuple[str, tuple[int, int]]:
    arguments = self.tokenizer.special_tokens | self.prompt_format.chat_arguments | {"tools": tools}
    text, spans = chat.assistant_spans(messages, chat.template_of(self.tokenizer), **arguments)
    return text, spans[-1]
