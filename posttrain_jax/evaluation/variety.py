"""Measures how varied a model's answers to plain text are."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.model import Policy
from posttrain_jax.data import prompts
from posttrain_jax.data.prompts import Row
from posttrain_jax.evaluation import diversity
from posttrain_jax.evaluation import metrics as bootstrap
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import at_least
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import Group


@dataclasses.dataclass(frozen=True, kw_only=True)
class VarietySettings:
  """Holds a config's group of fields about samples whose variety is measured.

  Attributes:
    prompts: texts that samples answer or continue.
    samples: of each text.
    chat: whether the text is put through the chat template.
    slots: samples drawn at the same time.
    max_prompt_length: longer texts are left out, in tokens.
    max_new_tokens: cap on a sample in tokens.
  """

  prompts: int = at_least(1)
  samples: int = at_least(1)
  chat: bool
  slots: int
  max_prompt_length: int
  max_new_tokens: int


class Variety:
  """Measures the variety of samples at temperature 1 that answer or continue plain text."""

  def __init__(
    self,
    section: VarietySettings,
    policy: Policy,
    rows: Sequence[Row],
    mesh: Mesh,
    *,
    field: str,
    seed: int,
  ):
    """Makes the engine.

    Args:
      section: how many samples of which texts.
      policy: model and tokeniser.
      rows: the texts; the first `prompts` of those within `max_prompt_length` are prompts.
      mesh: where the sampler's parameters are.
      field: their column.
      seed: the config's; every measurement shares its random numbers.

    Raises:
      InputError: if no prompt is within the limit, or if settings mean nothing.
    """
    found, _ = prompts.make_prompts(
      rows,
      policy.tokenizer,
      max_length=section.max_prompt_length,
      prompt_format=prompts.PromptFormat(chat=section.chat),
      prompt_field=field,
      answer_field=field,  # nothing is judged
      over_limit=prompts.OverLimit.DROP,
    )
    self._prompts, self._samples = found[: section.prompts], section.samples
    self._vocabulary, self._seed = policy.tokenizer.vocab_size, stream_seed(seed, Stream.EVALUATION)
    self._engine = Engine(
      policy.model,
      SamplingConfig(stop_ids=policy.tokenizer.stop_ids),
      Sizes(
        slots=section.slots,
        max_prompt_length=max(len(prompt.tokens) for prompt in self._prompts),
        max_new_tokens=section.max_new_tokens,
        share=self._samples,
      ),
      seed=self._seed,
      mesh=mesh,
    )

  def __call__(self, params: nnx.State, version: int) -> dict[str, float]:
    """Measures how varied the samples of parameters are.

    Args:
      params: the sampler's parameters.
      version: their version.

    Returns:
      What `variety` measures, and length: mean tokens of a sample.
    """
    self._engine.load(params, version)
    groups = self._engine.generate(self._prompts, self._samples)
    self._engine.unload()
    lengths = [len(answer.tokens) for group in groups for answer in group.answers]
    return variety(groups, vocabulary=self._vocabulary, seed=self._seed) | {"length": float(np.mean(lengths))}


def variety(groups: Sequence[Group], *, vocabulary: int, seed: int) -> dict[str, float]:
  """Measures how varied the samples of each prompt are.

  Args:
    groups: the samples of each prompt.
    vocabulary: how many different tokens there are.
    seed: of the intervals.

  Returns:
    distinct_1, distinct_2, ead (of single tokens) and, of several samples, self_bleu (1 for copies): means over
    prompts, each with `_low` and `_high`, the 95 % interval over prompts.
  """
  answers = [[answer.tokens.tolist() for answer in group.answers] for group in groups]
  measures = {
    "distinct_1": [diversity.distinct_n(each, 1) for each in answers],
    "distinct_2": [diversity.distinct_n(each, 2) for each in answers],
    "ead": [diversity.expectation_adjusted_distinct(each, vocabulary=vocabulary) for each in answers],
  }
  if min(map(len, answers)) > 1:
    measures["self_bleu"] = [diversity.self_bleu(each) for each in answers]
  result = {}
  for name, per_prompt in measures.items():
    found = bootstrap.estimate(np.array(per_prompt), seed=seed)
    result |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
  return result
