"""Turns what a request asks into the tokens that the model goes on from."""

from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.data import chat
from posttrain_jax.data.prompts import PromptFormat
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.types import InputError


def prompt_tokens(
  asked: str | tuple[int, ...] | Sequence[Mapping[str, Any]], tokenizer: Tokenizer, prompt_format: PromptFormat
) -> tuple[int, ...]:
  """Returns the tokens of a prompt.

  Args:
    asked: text or ids, which are taken as they are; or messages, which are asked in the model's format.
    tokenizer: the model's.
    prompt_format: the model's.

  Raises:
    InputError: if a text has no tokens, or if the messages do not fit the format: a model without a chat template takes
      one message, the user's.
  """
  if isinstance(asked, str):
    return tuple(tokenizer.encode_prompt(asked))
  if isinstance(asked, tuple) and all(isinstance(token, int) for token in asked):
    return asked
  if tokenizer.chat_template is None:
    if len(asked) != 1 or asked[0].get("role") != "user" or not isinstance(asked[0].get("content"), str):
      raise InputError("messages: this model has no chat template, expected one message of the user")
    text = prompt_format.ask(asked[0]["content"])
    if isinstance(text, str):
      return tuple(tokenizer.encode_prompt(text))
    asked = text
  messages = prompt_format.ask(asked)
  arguments = prompt_format.chat_arguments
  return tuple(chat.encode_prompt(messages, tokenizer, left_out=prompt_format.left_out, **arguments))
