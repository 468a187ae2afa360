"""Scores rows of tokens under a model.

A language model gives the logprob of each token given those before it, and the greedy continuation; a reward model
gives the score at the row's last token. In float32 on one device. Rows of similar length share a batch; a row's numbers
do not depend on the others in it beyond rounding.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from posttrain_jax import atomic_files, losses
from posttrain_jax.assembly.model import Which, find_tokenizer, load_model
from posttrain_jax.data.prompts import Row, read_jsonl
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.local_path import output_file
from posttrain_jax.models.buckets import bucket, map_rows
from posttrain_jax.models.config import Remat, TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.reshard import unstack_layers
from posttrain_jax.rewards.model_reward import ModelReward
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import InputError, Prompt

_TOKENS_PER_BATCH = 4096
_LOGPROB_CHUNK = 1024
_MAX_SLOTS = 32
_CACHED_TOKENS = 32_768  # over all slots of the engine, unless one row alone is longer


def score(
  model: str,
  source: str,
  destination: str,
  *,
  greedy_tokens: int = 24,
  which: Which | None = None,
  stop: bool = False,
  beyond_context: bool = False,
) -> dict[str, int]:
  """Scores a file of rows.

  Args:
    model: PATH_OR_NAME.
    source: JSONL file of {"tokens": [...]} or {"text": "..."}, the latter encoded with what the tokeniser puts around a
      text by itself. Other columns are ignored.
    destination: JSONL file to write, whole or not at all. A line per row, in order: "tokens"; "logprobs", one fewer, of
      tokens 1, 2, …; "greedy", the continuation. Of a reward model: "tokens"; "reward". With a tokeniser also "text",
      the row's, and "greedy_text", the continuation's.
    greedy_tokens: length of the continuation; a reward model has none.
    which: which checkpoint of a workdir.
    stop: ends a continuation at the first stop id, which it keeps. Its text does not.
    beyond_context: lets rows, with their continuations, be longer than the model's context.

  Returns:
    Counts: "rows" and "tokens".

  Raises:
    InputError: if the model or a row is not fit for use, with file and line, before anything is computed or written.
  """
  output = output_file(destination, "--output")
  lines = read_jsonl(source)
  config, params = load_model(model, which)
  # Ids without a token keep their probability here, so that logprobs are those of other libraries.
  config = dataclasses.replace(config, compute_dtype="float32", remat=Remat.NONE, absent_ids=())
  config = dataclasses.replace(config, beyond_context=config.beyond_context or beyond_context)
  tokenizer = find_tokenizer(model)
  if stop and tokenizer is None:
    raise InputError(f"--stop: {model} comes without a tokeniser, which names the tokens that end a text")
  rows = [row_tokens(line, tokenizer, config.vocab_size) for line in lines]
  records: list[dict[str, Any]] = [{"tokens": tokens} for tokens in rows]
  if tokenizer is not None:
    for record, line in zip(records, lines):
      text = line.columns.get("text")
      record["text"] = tokenizer.decode(record["tokens"]) if text is None else text
  for line, row in zip(lines, rows):
    continued = 0 if config.scalar_head else greedy_tokens
    config.check_context(len(row) + continued, f"{line.source}: {len(row)} tokens and {continued} more")
  with jax.default_matmul_precision("highest"):
    if config.scalar_head:
      rewards = ModelReward(config, params, tokens_per_batch=_tokens_per_batch(rows)).score(rows)
      for record, reward in zip(records, rewards.tolist()):
        record["reward"] = reward
    else:
      params = jax.device_put(params, jax.devices()[0])
      logprobs = row_logprobs(config, params, rows)
      stop_ids = tokenizer.stop_ids if stop else ()
      greedy = greedy_continuations(config, params, rows, greedy_tokens, stop_ids=stop_ids)
      for record, values, continuation in zip(records, logprobs, greedy):
        record |= {"logprobs": values.tolist(), "greedy": continuation.tolist()}
        if tokenizer is not None:
          ended = stop and len(continuation) and continuation[-1] in stop_ids
          record["greedy_text"] = tokenizer.decode(continuation[:-1] if ended else continuation)
  atomic_files.write_rows(output, records)
  return {"rows": len(rows), "tokens": sum(map(len, rows))}


def row_tokens(row: Row, tokenizer: Tokenizer | None, vocab_size: int) -> list[int]:
  """Returns the token ids of a row.

  Raises:
    InputError: if it has none, or ids that the model has no embedding for.
  """
  given = [name for name in ("tokens", "text") if row.columns.get(name) is not None]
  if len(given) != 1:
    found = ", ".join(row.columns) or "none"
    raise InputError(f"{row.source}: found columns {found}; expected 'tokens' or 'text', one of them")
  value: Any = row.columns[given[0]]
  if given == ["text"]:
    if tokenizer is None:
      raise InputError(f"{row.source}: found 'text', expected 'tokens': the model comes without a tokeniser")
    if not isinstance(value, str):
      raise InputError(f"{row.source}: text is {type(value).__name__}, expected a string")
    try:
      value = tokenizer.encode(value, add_special_tokens=True)
    except InputError as error:
      raise InputError(f"{row.source}: {error}") from None
  if not isinstance(value, list):
    raise InputError(f"{row.source}: tokens is {type(value).__name__}, expected a list of token ids")
  if not value:
    raise InputError(f"{row.source}: found no tokens, expected at least one")
  for position, token in enumerate(value):
    if type(token) is not int or not 0 <= token < vocab_size:
      raise InputError(f"{row.source}: token {position} is {token!r}, expected an id from 0 to {vocab_size - 1}")
  return value


def row_logprobs(config: TransformerConfig, params: nnx.State, rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
  """Computes logprobs of tokens 1, 2, … of each row given those before.

  Args:
    config: the transformer, layers stacked.
    params: its parameters.
    rows: token ids of each row, at least one.

  Returns:
    float32 [len(row) - 1] for each row.
  """
  graph, _ = abstract_transformer(config)

  @jax.jit
  def logprobs(params, tokens_BxT):
    model = nnx.merge(graph, params)
    hidden = row_hidden(model, tokens_BxT[:, :-1])
    return losses.logprobs.token_logprobs(hidden, model.unembedding(), tokens_BxT[:, 1:], chunk=_LOGPROB_CHUNK)

  found = map_rows(lambda tokens, _: logprobs(params, tokens), rows, tokens_per_batch=_tokens_per_batch(rows))
  return [values[: len(row) - 1] for values, row in zip(found, rows)]


def greedy_continuations(
  config: TransformerConfig,
  params: nnx.State,
  rows: Sequence[Sequence[int]],
  count: int,
  *,
  stop_ids: tuple[int, ...] = (),
) -> list[np.ndarray]:
  """Draws the `count` most likely tokens after each row, int32 [n] each.

  n is `count`, or less if a stop id ends the continuation.
  """
  if count == 0:
    return [np.zeros((0,), np.int32)] * len(rows)
  longest = max(map(len, rows))
  slots = max(1, min(_MAX_SLOTS, len(rows), _CACHED_TOKENS // (longest + count)))
  engine = Engine(
    config,
    SamplingConfig(temperature=0.0, stop_ids=stop_ids),
    Sizes(slots=slots, max_prompt_length=longest, max_new_tokens=count, steps_per_dispatch=min(count, 16)),
    seed=0,
  )
  engine.load(jax.jit(lambda params: unstack_layers(params, config.num_layers, config.compute_dtype))(params), 0)
  groups = engine.generate([Prompt(index, tuple(row), {}) for index, row in enumerate(rows)], 1)
  return [group.answers[0].tokens for group in groups]


def _tokens_per_batch(rows: Sequence[Sequence[int]]) -> int:
  """Returns the tokens of a batch; a short file has small batches, so it stays cheap."""
  return min(_TOKENS_PER_BATCH, len(rows) * bucket(max(map(len, rows))))
