"""Goes on from texts with a saved model: draws what follows, or rates given endings."""

import re
from collections.abc import Sequence

import jax
import numpy as np

from posttrain_jax.assembly.hand_over import sampler_params
from posttrain_jax.assembly.judges import answer_text
from posttrain_jax.assembly.model import open_policy
from posttrain_jax.data import chat
from posttrain_jax.data.chat_template import Message
from posttrain_jax.evaluation.choice_logprobs import choice_logprobs
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import LEARNER_RULES, state_shardings
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import FinishReason, Prompt


class TextModel:
  """Holds a model that is ready to go on from texts."""

  def __init__(self, path: str, *, seed: int, slots: int, max_prompt_length: int, max_new_tokens: int):
    """Loads the model.

    Args:
      path: PATH_OR_NAME.
      seed: of all draws.
      slots: texts drawn at the same time.
      max_prompt_length: limit on a text to go on from, in tokens.
      max_new_tokens: limit on what is drawn, in tokens.

    Raises:
      InputError: if there is no such model.
    """
    policy = open_policy(path)
    self._model, self._tokenizer, self._mesh = policy.model, policy.tokenizer, make_mesh({"data": -1})
    self._params = jax.device_put(policy.params, state_shardings(policy.params, self._mesh, LEARNER_RULES))
    sizes = Sizes(slots=slots, max_prompt_length=max_prompt_length, max_new_tokens=max_new_tokens, share=1)
    sampling = SamplingConfig(stop_ids=policy.tokenizer.stop_ids)
    self._engine = Engine(policy.model, sampling, sizes, seed=seed, mesh=self._mesh)
    self._engine.load(sampler_params(policy, self._mesh), 0)

  def draw(self, texts: Sequence[str], attempt: int = 0) -> tuple[list[str], int]:
    """Draws what follows each text at temperature 1.

    Args:
      texts: to go on from.
      attempt: another number gives other draws.

    Returns:
      (what follows each text, without the end token; tokens drawn).

    Raises:
      InputError: if a text is longer than the limit.
    """
    return self._draw([self._tokenizer.encode_prompt(text) for text in texts], attempt)

  def draw_chats(self, chats: Sequence[Sequence[Message]], attempt: int = 0) -> tuple[list[str], int]:
    """Draws the assistant's next turn of each chat, or the rest of its last one.

    Raises:
      InputError: if the model has no chat template, or if a chat is longer than the limit.
    """
    return self._draw([self.encode_chat(messages) for messages in chats], attempt)

  def encode_chat(self, messages: Sequence[Message]) -> list[int]:
    """Returns the tokens of a chat up to the point where the assistant answers."""
    return chat.encode_prompt(messages, self._tokenizer)

  def _draw(self, tokens: Sequence[Sequence[int]], attempt: int) -> tuple[list[str], int]:
    prompts = [Prompt(i, tuple(each), {}, attempt=attempt) for i, each in enumerate(tokens)]
    answers = [group.answers[0] for group in self._engine.generate(prompts, 1)]
    found = [
      answer_text(self._tokenizer, each.tokens, ended=each.finish_reason == FinishReason.EOS) for each in answers
    ]
    return found, sum(len(each.tokens) for each in answers)

  def ending_logprobs(self, texts: Sequence[str], endings: Sequence[str]) -> np.ndarray:
    """Computes the logprob of each text's own ending.

    Returns:
      float32 [texts]; no end token is read.
    """
    prompts = [self._tokenizer.encode_prompt(text) for text in texts]
    choices = [[self._tokenizer.encode(f" {ending}")] for ending in endings]
    return choice_logprobs(self._model, self._params, prompts, choices, self._mesh)[:, 0]

  def logprobs(self, texts: Sequence[str], endings: Sequence[str]) -> np.ndarray:
    """Computes the logprobs of the same endings after each text.

    Returns:
      float32 [texts, endings]; no end token is read.
    """
    prompts = [self._tokenizer.encode_prompt(text) for text in texts]
    choices = [self._tokenizer.encode(f" {ending}") for ending in endings]
    return choice_logprobs(self._model, self._params, prompts, [choices] * len(texts), self._mesh)

  def chat_logprobs(self, chats: Sequence[Sequence[Message]], endings: Sequence[str]) -> np.ndarray:
    """Computes the logprobs of the same beginnings of the assistant's next turn in each chat.

    A chat whose last turn is the assistant's is gone on from in that turn.

    Returns:
      float32 [chats, endings]; no end token is read.
    """
    prompts = [self.encode_chat(messages) for messages in chats]
    choices = [self._tokenizer.encode(ending) for ending in endings]
    return choice_logprobs(self._model, self._params, prompts, [choices] * len(chats), self._mesh)

  def words(self) -> list[str]:
    """Returns the tokens that are whole words of small Latin letters after a space, in order."""
    found = {self._tokenizer.decode([token]) for token in range(self._tokenizer.vocab_size)}
    return sorted(text[1:] for text in found if re.fullmatch(r" [a-z]+", text))
