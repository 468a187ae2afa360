"""Text that a model is not trained on: how well it still predicts it, and how varied its answers to it still are."""

from collections.abc import Sequence

import ml_collections
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.data import arithmetic, demonstrations, prompts, supervised
from posttrain_jax.data.encoding import Example, encode_demonstrations
from posttrain_jax.data.prompts import Row
from posttrain_jax.data.supervised import SupervisedBatches
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.evaluation import diversity
from posttrain_jax.evaluation import metrics as bootstrap
from posttrain_jax.pipelines.policy import Policy
from posttrain_jax.pipelines.settings import at_least
from posttrain_jax.pipelines.streams import Stream, stream_seed
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import InputError


def read_plain(section: ml_collections.ConfigDict) -> tuple[list[Row], str]:
  """Rows of text in the column `section.field`, with the sha256 of what they were read from.

  Args:
    section: `path`, `field` and `limit`; without a path, what the procedural crowd writes about `per_difficulty`
      held-out problems of every difficulty.

  Raises:
    InputError: nothing is there, or a row without such text.
  """
  at_least(ml_collections.ConfigDict({"plain": section}), {"plain.limit": 0})
  if not section.path:
    problems = arithmetic.problems(arithmetic.Split.HELD_OUT, per_difficulty=section.per_difficulty, seed=section.seed)
    written = demonstrations.demonstrations(problems, seed=section.seed)
    return prompts.named_rows(written, "plain")[: section.limit or None], prompts.rows_digest(written)
  rows = prompts.read_jsonl(section.path)[: section.limit or None]
  for row in rows:
    if not isinstance(row.columns.get(section.field), str) or not row.columns[section.field].strip():
      raise InputError(f"{row.source}: {section.field} is {row.columns.get(section.field)!r}, expected text")
  return rows, prompts.file_digest(section.path)


def lay_out(
  section: ml_collections.ConfigDict, rows: Sequence[Row], tokenizer: Tokenizer, *, batch_size: int
) -> SupervisedBatches:
  """Rows of `read_plain` for `Validation`: every token of a file's text counts, of the crowd's what it answers.

  A problem's digits are drawn at random; there is nothing to predict about them. Texts are cut at `row_length` tokens.
  """
  if section.path:
    examples = documents(rows, tokenizer, field=section.field, row_length=section.row_length)
  else:
    examples = encode_demonstrations(rows, tokenizer, chat=False)
    examples, _ = supervised.limit_length(examples, max_length=section.row_length, too_long=supervised.TooLong.CUT)
  options = dict(pad_id=tokenizer.pad_id or 0, length=section.row_length, packed=True)
  return SupervisedBatches(examples, batch_size=batch_size, seed=0, **options)


def documents(rows: Sequence[Row], tokenizer: Tokenizer, *, field: str, row_length: int) -> list[Example]:
  """Texts in the column `field` of which every token is learned, cut at `row_length` tokens."""
  tokens = [tokenizer.encode(row.columns[field], add_special_tokens=True) for row in rows]
  examples = [
    Example(np.array(each, np.int32), np.ones(len(each), bool), row.source) for each, row in zip(tokens, rows)
  ]
  return supervised.limit_length(examples, max_length=row_length, too_long=supervised.TooLong.CUT)[0]


class Variety:
  """Draws samples at temperature 1 that answer or go on from plain text, and measures how varied they are."""

  def __init__(
    self,
    section: ml_collections.ConfigDict,
    policy: Policy,
    rows: Sequence[Row],
    mesh: Mesh,
    *,
    field: str,
    seed: int,
  ):
    """Makes the engine.

    Args:
      section: the config's `samples`: `prompts`, `samples`, `chat` and the engine's settings.
      policy: model and tokeniser.
      rows: the texts; the first `prompts` of those within `max_prompt_length` are prompts.
      mesh: where the sampler's parameters are.
      field: their column.
      seed: the config's; every measurement shares its random numbers.

    Raises:
      InputError: no prompt within the limit, or settings that mean nothing.
    """
    least = dict(prompts=1, samples=1)
    at_least(ml_collections.ConfigDict({"samples": section}), {f"samples.{name}": n for name, n in least.items()})
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
      seed=self._seed,
      slots=section.slots,
      max_prompt_length=max(len(prompt.tokens) for prompt in self._prompts),
      max_new_tokens=section.max_new_tokens,
      share=self._samples,
      mesh=mesh,
    )

  def __call__(self, params: nnx.State, version: int) -> dict[str, float]:
    """Measures.

    Args:
      params: the sampler's parameters.
      version: their version.

    Returns:
      distinct_1, distinct_2 and ead (of single tokens) of all samples of a prompt together, mean over prompts, each
      with `_low` and `_high`, the 95 % interval over prompts; length: mean tokens of a sample.
    """
    self._engine.load(params, version)
    groups = self._engine.generate(self._prompts, self._samples)
    self._engine.release()
    answers = [[answer.tokens.tolist() for answer in group.answers] for group in groups]
    measures = {
      "distinct_1": [diversity.distinct_n(each, 1) for each in answers],
      "distinct_2": [diversity.distinct_n(each, 2) for each in answers],
      "ead": [diversity.expectation_adjusted_distinct(each, vocabulary=self._vocabulary) for each in answers],
    }
    result = {}
    for name, per_prompt in measures.items():
      found = bootstrap.estimate(np.array(per_prompt), seed=self._seed)
      result |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
    return result | {"length": float(np.mean([len(answer) for each in answers for answer in each]))}
