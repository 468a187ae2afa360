"""Makes running models for the tests, and asks the engine by itself for what a server has to answer."""

import dataclasses

from posttrain_jax.assembly.judges import answer_text
from posttrain_jax.assembly.model import open_policy
from posttrain_jax.data.vocabularies import byte_tokenizer
from posttrain_jax.serving.completion import CompletionRequest
from posttrain_jax.serving.running_model import RunningModel
from posttrain_jax.serving.running_request import sampling_of
from posttrain_jax.serving.serving_engine import EngineSizes, serving_engine
from posttrain_jax.types import FinishReason, Prompt
from tests.recipes.saved_model import save_model

SIZES = EngineSizes(slots=4, max_prompt_length=40, max_new_tokens=24, queue=12, steps_per_dispatch=4)


def save_byte_model(folder, *seeds):
  save_model(folder, *(seeds or [0]), tokenizer=byte_tokenizer())
  return folder


def new_model(folder, **options):
  return RunningModel(str(folder), options.pop("sizes", SIZES), **options)


def asked(prompt="ab", **changes):
  """Returns a request, drawn at temperature 1 unless it says otherwise."""
  plain = CompletionRequest(
    prompt=prompt,
    temperature=1.0,
    top_p=1.0,
    top_k=0,
    min_p=0.0,
    max_tokens=None,
    stop=(),
    seed=7,
    n=1,
    top_logprobs=0,
  )
  return dataclasses.replace(plain, **changes)


class AloneEngine:
  """Answers one request at a time with an engine of the same sizes; it knows no server."""

  def __init__(self, folder, sizes=SIZES):
    policy = open_policy(str(folder))
    self.tokenizer, self._sizes, self._engine = policy.tokenizer, sizes, serving_engine(policy, sizes)

  def answers(self, tokens, request):
    """Returns (tokens, logprobs, text, finish reason) of each choice."""
    self._engine.submit(Prompt(0, tuple(tokens), {}), request.n, sampling_of(request, self._sizes.max_new_tokens))
    groups = []
    while self._engine.busy:
      groups += self._engine.step()
    return [self._described(answer, request.stop) for answer in groups[0].answers]

  def _described(self, answer, stop):
    ended = answer.finish_reason == FinishReason.EOS
    text = answer_text(self.tokenizer, answer.tokens, ended=ended)
    text = text[: min((text.index(each) for each in stop if each in text), default=len(text))]
    return answer.tokens.tolist(), answer.sampler_logprobs.tolist(), text, "stop" if ended else "length"


def collected(pieces, n=1):
  """Joins pieces as `AloneEngine.answers` describes answers."""
  found = [([], [], "", None) for _ in range(n)]
  for piece in pieces:
    tokens, logprobs, text, reason = found[piece.choice]
    assert reason is None  # nothing comes after the end
    found[piece.choice] = (
      [*tokens, *piece.tokens],
      [*logprobs, *piece.logprobs],
      text + piece.text,
      None if piece.finish_reason is None else str(piece.finish_reason),
    )
  return found
