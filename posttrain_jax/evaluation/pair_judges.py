"""Makes judges of pairs of answers from models.

There are four kinds. A reward model prefers the answer with the higher score; it may be one that writes its score
(`evaluation.written_scores`). A policy that was trained on preferences prefers the answer whose logprob has grown more
from its reference (DPO's implicit reward, arXiv:2305.18290, equation 5). Any other language model reads both answers
and says which is better, as in arXiv:2306.05685.

Deviations: an answer is scored with an end token, also if it was cut off at its cap. An implicit reward does not count
the end token. An empty answer loses to any other. Two answers of which one has no score are a tie.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from posttrain_jax.assembly.model import Policy, open_policy, read_config
from posttrain_jax.assembly.prompt_format import own_format
from posttrain_jax.assembly.readers import load_reader
from posttrain_jax.data import chat
from posttrain_jax.data.preference_rows import BadRow, Judgement
from posttrain_jax.data.preference_tokens import AnswerEncoder, Encoded
from posttrain_jax.evaluation.choice_logprobs import choice_logprobs
from posttrain_jax.evaluation.pairwise import PairJudge
from posttrain_jax.evaluation.written_scores import WrittenScores, writes_scores
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import LEARNER_RULES, state_shardings
from posttrain_jax.rewards.model_reward import ModelReward
from posttrain_jax.types import InputError

Asked = str | Sequence[Mapping[str, Any]]  # a prompt: text, or messages
Score = Callable[[Sequence[tuple[Asked, str]]], Sequence[float]]  # of (prompt, answer)

QUESTION = """Which of two answers serves the one who asked better?

<question>
{prompt}
</question>

<answer A>
{first}
</answer A>

<answer B>
{second}
</answer B>

Say only which is better: A or B."""
_CHOICES = ("A", "B")


def make_judge(path: str, *, reference: str | None, question: str | None) -> PairJudge:
  """Makes the judge that a model is.

  Args:
    path: PATH_OR_NAME.
    reference: PATH_OR_NAME of what a policy was trained from; makes its implicit reward the judge.
    question: how a language model is asked, with {prompt}, {first} and {second} in it; None is `QUESTION`.

  Raises:
    InputError: if there is no such model, or if what is given does not fit its kind.
  """
  has_scalar = read_config(path).scalar_head
  is_reward_model = has_scalar or writes_scores(path)
  if question is not None and (is_reward_model or reference is not None):
    raise InputError(f"--judge={path}: reads one answer at a time, expected no question about two")
  if is_reward_model and reference is not None:
    raise InputError(f"--judge={path}: is a reward model, expected no --judge_reference beside it")
  if is_reward_model:
    return by_score(_rewards(path) if has_scalar else WrittenScores(path))
  if reference is not None:
    return by_score(_implicit_rewards(path, reference))
  return AskedJudge(path, QUESTION if question is None else question)


def by_score(score: Score) -> PairJudge:
  """Makes a judge that prefers the answer with the higher score.

  Equal scores are a tie, and so are two of which one is NaN. An answer that was scored before is not scored again.
  """
  known: dict[tuple[str, str], float] = {}

  def key(prompt: Asked, answer: str) -> tuple[str, str]:
    return json.dumps(prompt), answer

  def judge(pairs: Sequence[tuple[Asked, str, str]]) -> list[float]:
    every = {key(asked, text): (asked, text) for asked, *both in pairs for text in both}
    new = [each for each in every if each not in known]
    known.update(zip(new, map(float, score([every[each] for each in new]))))
    both = [(known[key(asked, first)], known[key(asked, second)]) for asked, first, second in pairs]
    return [0.5 if first == second or math.isnan(first + second) else float(first > second) for first, second in both]

  return judge


class AskedJudge:
  """Asks a language model which of two answers is better; a `PairJudge`."""

  def __init__(self, path: str, question: str):
    """Loads the model.

    Args:
      path: PATH_OR_NAME.
      question: with {prompt}, {first} and {second} in it.

    Raises:
      InputError: if there is no such model, or if a part is missing in the question.
    """
    for field in ("{prompt}", "{first}", "{second}"):
      if field not in question:
        raise InputError(f"--judge_question: has no {field!r}, expected it where that text belongs")
    self._question, self._mesh = question, make_mesh({}, jax.local_devices()[:1])
    self._policy, self._params = _loaded(open_policy(path), self._mesh)
    self._format = own_format(path, self._policy.tokenizer)

  def __call__(self, pairs: Sequence[tuple[Asked, str, str]]) -> list[float]:
    """Returns the probability of A among A and B.

    It is ½ where a text has a control token, as such an answer might judge itself.
    """
    tokenizer = self._policy.tokenizer
    texts = [self._text(*pair) for pair in pairs]
    asks = [place for place, text in enumerate(texts) if not any(map(tokenizer.is_special, tokenizer.encode(text)))]
    if len(asks) < len(pairs):
      logging.warning("judge: %d of %d pairs are ties: a text has a control token", len(pairs) - len(asks), len(pairs))
    found = np.full(len(pairs), 0.5)
    if asks:
      prompts, gap = [], ""
      for place in asks:
        asked = self._format.ask(texts[place])
        gap = " " if isinstance(asked, str) else ""  # a turn of a chat begins without one
        prompts.append(tokenizer.encode_prompt(asked) if gap else chat.encode_prompt(asked, tokenizer))
        self._policy.model.check_context(len(prompts[-1]) + 1, "--judge: a question about two answers")
      choices = [tokenizer.encode(f"{gap}{choice}") for choice in _CHOICES]
      logprobs = choice_logprobs(self._policy.model, self._params, prompts, [choices] * len(prompts), self._mesh)
      gaps = logprobs[:, 1].astype(np.float64) - logprobs[:, 0]
      found[asks] = 1 / (1 + np.exp(np.clip(gaps, -500, 500)))
    return found.tolist()

  def _text(self, asked: Asked, first: str, second: str) -> str:
    if not isinstance(asked, str):
      asked = "\n\n".join(f"{message['role']}: {message['content']}" for message in asked)
    fields = {"prompt": asked, "first": first, "second": second}
    # All fields in one pass, because an answer may contain "{second}".
    return re.sub(r"\{(prompt|first|second)\}", lambda match: fields[match[1]], self._question)


def _loaded(policy: Policy, mesh: jax.sharding.Mesh) -> tuple[Policy, Any]:
  """Returns a language model and its parameters on the devices."""
  return policy, jax.device_put(policy.params, state_shardings(policy.params, mesh, LEARNER_RULES))


def _rewards(path: str) -> Score:
  policy = load_reader(path, None, "--judge", scalar_head=True)[0]
  encoder = AnswerEncoder(policy.tokenizer, own_format(path, policy.tokenizer))
  model = ModelReward(policy.model, policy.params)

  def score(rows: Sequence[tuple[Asked, str]]) -> np.ndarray:
    encoded = _encoded(encoder, rows)
    tokens = [np.array([*each.prompt, *each.answers[0]], np.int32) for each in encoded if each]
    for row in tokens:
      policy.model.check_context(len(row), "--judge: prompt and answer")
    return _placed(encoded, model.score(tokens) if tokens else ())

  return score


def _implicit_rewards(path: str, reference: str) -> Score:
  mesh = make_mesh({}, jax.local_devices()[:1])
  policy, params = _loaded(open_policy(path), mesh)
  other, old_params = _loaded(load_reader(reference, policy.tokenizer, "--judge_reference", scalar_head=False)[0], mesh)
  encoder = AnswerEncoder(policy.tokenizer, own_format(path, policy.tokenizer))

  def score(rows: Sequence[tuple[Asked, str]]) -> np.ndarray:
    encoded = _encoded(encoder, rows)
    prompts = [each.prompt for each in encoded if each]
    answers = [[each.answers[0][: len(each.answers[0]) - each.ends[0]]] for each in encoded if each]
    for prompt, (answer,) in zip(prompts, answers):
      policy.model.check_context(len(prompt) + len(answer), "--judge: prompt and answer")
    if not prompts:
      return _placed(encoded, ())
    new = choice_logprobs(policy.model, params, prompts, answers, mesh)
    old = choice_logprobs(other.model, old_params, prompts, answers, mesh)
    return _placed(encoded, (new.astype(np.float64) - old)[:, 0])

  return score


def _encoded(encoder: AnswerEncoder, rows: Sequence[tuple[Asked, str]]) -> list[Encoded | None]:
  """Tokenises prompts with their answers; None for an empty answer."""
  found: list[Encoded | None] = []
  for asked, answer in rows:
    prompt = asked if isinstance(asked, str) else tuple(asked)
    try:
      said = Judgement(prompt, ({"role": "assistant", "content": answer},), (0,), None)
      found.append(encoder.encode(said))
    except BadRow as error:
      if error.reason != "empty_answer":
        raise InputError(f"--judge: cannot read {str(prompt)!r:.60} with its answer: {error}") from None
      found.append(None)
  return found


def _placed(encoded: Sequence[Encoded | None], scores: Sequence[float]) -> np.ndarray:
  """Puts scores where there is an answer, and −∞ where it is empty."""
  found, there = np.full(len(encoded), -math.inf), [each is not None for each in encoded]
  found[there] = scores
  return found
