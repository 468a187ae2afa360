"""Scores sampled answers with a generative reward model: it writes its reasons, then a score.

DeepSeek-V3 (arXiv:2412.19437, §5.2.1) rewards what no rule can check by such a model. §5.4.2 describes self-rewarding:
the policy judges its own answers, and votes over several judgements make that more reliable.

The random numbers of a judgement depend on the run's seed, and on the judged prompt's index and attempt and the
answer's number. Nothing counts calls, so a run that was killed goes on with the same judgements.

Deviations: the papers give no equation. Votes are averaged, and the expected reading (`data.judgements`) is ours. The
judge sees the prompt of the data row, without the template, system message and tools that the policy sees.
"""

import dataclasses
import enum
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.engine_turns import draw_between
from posttrain_jax.assembly.hand_over import sampler_params
from posttrain_jax.assembly.judges import answer_text
from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.prompt_format import FormatSettings
from posttrain_jax.assembly.rollout_engine import EngineSettings
from posttrain_jax.assembly.score_reading import ScoreReader, mean_of_votes
from posttrain_jax.data.judgements import Wording, judgement_prompt
from posttrain_jax.data.prompts import Row, make_prompts, own_prompt
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.parallel.processes import local_mesh, part_of
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import at_least
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import FinishReason, Group, InputError, Prompt

SamplerParams = Callable[[], tuple[nnx.State, int]]  # the judge's parameters in the sampler's layout, and their version


class Reading(enum.StrEnum):
  """Names the ways to read a judgement's score."""

  EXPECTED = "expected"  # the mean score under the probabilities of the score's token, after the reasons
  SAMPLED = "sampled"  # the score that is written


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerativeJudgeSettings(EngineSettings, FormatSettings):
  """Holds the `judge` section; `configs/tiny_generative_grpo.py` says what its fields mean.

  Attributes:
    path: PATH_OR_NAME of the generative reward model; empty for self-rewarding.
    self_rewarding: whether the policy judges its own answers, with its current parameters.
    wording: how the judge is asked, and how it writes a score.
    low: the worst score.
    high: the best score.
    reading: how a judgement's score is read.
    votes: judgements of each answer, which are averaged.
  """

  path: str
  self_rewarding: bool
  wording: Wording
  low: int
  high: int
  reading: Reading
  votes: int = at_least(1)

  def __post_init__(self):
    """Raises InputError if fields contradict each other."""
    if bool(self.path) == self.self_rewarding:
      raise InputError(
        f"judge.path: {self.path!r} and judge.self_rewarding: {self.self_rewarding}, expected either a model or True"
      )
    if self.low >= self.high:
      raise InputError(f"judge.low: {self.low}, expected below judge.high, {self.high}")
    if self.votes > 1 and not self.sampling.temperature:
      raise InputError(f"judge.votes: {self.votes} at temperature 0 are all the same, expected 1 or a temperature")
    _ = self.prompt_format  # checks it


class GenerativeJudge:
  """Scores groups of answers; `score_groups` is a `judges.ScoreGroups`."""

  def __init__(
    self,
    settings: GenerativeJudgeSettings,
    judge: Policy,
    params: SamplerParams,
    mesh: Mesh,
    answers_in: Tokenizer,
    *,
    seed: int,
    engines: Sequence[Engine] = (),
  ):
    """Makes the engine that draws judgements.

    Args:
      settings: the config's `judge`.
      judge: model and tokeniser.
      params: gives the parameters whenever answers are judged.
      mesh: the learner's. With several processes each judges its own answers, on its part of the mesh.
      answers_in: the tokeniser that answers are in; the judge reads their text in its own.
      seed: the config's.
      engines: draw the answers. Those that are idle give up the memory of their caches while the judge draws.

    Raises:
      InputError: if the scores are not one token each, or if the judge's context or the mesh does not fit the sizes.
    """
    self._settings, self._params, self._engines = settings, params, engines
    self._tokenizer, self._answers_in = judge.tokenizer, answers_in
    mesh = local_mesh(mesh)
    try:
      self._reader = ScoreReader(
        judge.model,
        judge.tokenizer,
        mesh,
        low=settings.low,
        high=settings.high,
        mark=settings.wording.shown_mark,
      )
      self._engine = judge_engine(settings, judge, mesh, seed=seed)
    except InputError as error:
      raise InputError(f"judge: {str(error).replace('rollout.', 'judge.', 1)}") from None

  def check_prompts(self, prompts: Sequence[Prompt], *, answer_length: int) -> None:
    """Refuses prompts of which a full-length answer could not be judged.

    An answer may take more tokens in the judge's own tokeniser than it was drawn in. If it does not fit then, it has no
    score.

    Args:
      prompts: whose answers will be judged.
      answer_length: the cap on an answer in tokens.

    Raises:
      InputError: if the question about one is too long, or is not in the judge's alphabet.
    """
    left = self._settings.max_prompt_length - answer_length
    for prompt in prompts:
      try:
        self._question(prompt, "", max_length=left)
      except InputError as error:
        raise InputError(
          f"judge.max_prompt_length: {self._settings.max_prompt_length}, less {answer_length} for an answer; "
          f"{prompt.source or prompt.index}: {error}"
        ) from None

  def score_groups(self, groups: Sequence[Group]) -> list[np.ndarray]:
    """Scores each group's answers.

    Args:
      groups: the groups. In one call no two have the same prompt and attempt.

    Returns:
      float32 [G] for each group. NaN where every judgement abstains, where the question does not fit
      `judge.max_prompt_length`, and where the answer has a token of the judge's that controls it.
    """
    questions = [self._ask(group, number) for group in groups for number in range(len(group.answers))]
    asked = [question for question in questions if question is not None]
    scores = iter(self._scores(asked) if asked else ())
    found = np.array([math.nan if question is None else next(scores) for question in questions], np.float32)
    return np.split(found, np.cumsum([len(group.answers) for group in groups])[:-1])

  def _ask(self, group: Group, number: int) -> Prompt | None:
    """Returns the question about an answer; None if it cannot be asked."""
    answer, limit = group.answers[number], self._settings.max_prompt_length
    # Not the group's texts: where only a summary is judged, they have the whole answer.
    text = answer_text(self._answers_in, answer.tokens, ended=answer.finish_reason == FinishReason.EOS)
    try:
      # An answer that ends the question or speaks for the judge would score itself.
      if any(self._tokenizer.is_special(token) for token in self._tokenizer.encode(text)):
        raise InputError("the answer has a control token")
      question = self._question(group.prompt, text, max_length=limit)
    except InputError as error:
      logging.log_every_n_seconds(logging.WARNING, "judge: an answer has no score: %s", 60, error)
      return None
    # The engine's random numbers follow from index and attempt, so each answer needs an index of its own.
    index = group.prompt.index * len(group.answers) + number
    return dataclasses.replace(question, index=index, attempt=group.prompt.attempt)

  def _question(self, prompt: Prompt, answer: str, *, max_length: int) -> Prompt:
    settings = self._settings
    text = judgement_prompt(
      own_prompt(prompt.row), answer, low=settings.low, high=settings.high, wording=settings.wording
    )
    (question,), _ = make_prompts(
      [Row({"prompt": text}, "question")],
      self._tokenizer,
      max_length=max_length,
      prompt_format=settings.prompt_format,
      prompt_field="prompt",
      answer_required=False,
      limit_field="judge.max_prompt_length",
    )
    return question

  def _scores(self, asked: Sequence[Prompt]) -> np.ndarray:
    params, version = self._params()
    drawn = draw_between(self._engine, self._engines, params, version, asked, self._settings.votes)
    judged = self._reader.with_texts(drawn)
    if self._settings.reading == Reading.EXPECTED:
      return mean_of_votes(self._reader.expected(params, judged))
    return mean_of_votes(self._reader.sampled(judged))


def judge_engine(settings: GenerativeJudgeSettings, judge: Policy, mesh: Mesh, *, seed: int) -> Engine:
  """Makes the engine that draws judgements.

  Args:
    settings: the config's `judge`.
    judge: model and tokeniser.
    mesh: this process's part of the learner's.
    seed: the config's.

  Raises:
    InputError: if the judge's context or the mesh does not fit the sizes.
  """
  return Engine(
    judge.model,
    settings.sampling.of_tokenizer(judge.tokenizer, "judge.sampling"),
    Sizes(
      slots=part_of(settings.slots, "judge.slots"),
      max_prompt_length=settings.max_prompt_length,
      max_new_tokens=settings.max_new_tokens,
      share=settings.votes,
    ),
    seed=stream_seed(seed, Stream.JUDGEMENTS),
    decode=judge.tokenizer.decode,
    mesh=mesh,
  )


def refuse_two_judges(reward_model: str, judge: GenerativeJudgeSettings | None) -> None:
  """Refuses a config with both kinds of reward model, as an answer has one score.

  Raises:
    InputError: if it names both.
  """
  if reward_model and judge is not None:
    raise InputError(f"judge: given beside reward_model, {reward_model!r}; expected one of them")


def fixed_params(judge: Policy, mesh: Mesh) -> SamplerParams:
  """Gives the parameters of a judge that is not trained.

  They are placed on the devices at their first use.
  """
  return functools.cache(lambda: (sampler_params(judge, mesh), 0))


def current_params(engines: Sequence[Engine]) -> SamplerParams:
  """Gives the parameters that the policy's answers are drawn with, for self-rewarding.

  Args:
    engines: draw its answers. The first one that has parameters is asked.
  """
  return lambda: next((engine.params, engine.version) for engine in engines if engine.params is not None)
