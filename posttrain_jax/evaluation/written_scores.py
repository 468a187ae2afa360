"""Scores answers with a generative reward model that a run has trained.

It writes its reasons, then a score. The reasons are the likeliest ones, and the score is its mean under the
probabilities of its tokens (`assembly.score_reading`), so nothing is drawn.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from posttrain_jax.assembly.hand_over import sampler_params
from posttrain_jax.assembly.model import is_run, open_policy
from posttrain_jax.assembly.prompt_format import format_of_run
from posttrain_jax.assembly.score_reading import ScoreReader
from posttrain_jax.data.judgements import ARITHMETIC, ENGLISH, Wording, judgement_prompt
from posttrain_jax.data.prompts import Row, make_prompts
from posttrain_jax.local_path import local_path
from posttrain_jax.models.buckets import bucket
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.runs.settings import convert
from posttrain_jax.runs.workdir import CONFIG_FILE, read_json
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import Prompt

_SLOTS = 32
_UNBOUNDED = 2**30


def writes_scores(path: str) -> bool:
  """Tells whether a model is a run of `experiments.generative_reward`."""
  return is_run(path) and {"low", "high", "held_out_copies"} <= set(_section(path))


class WrittenScores:
  """Scores (prompt, answer) pairs; NaN where the judge comes to no score, or cannot be asked."""

  def __init__(self, path: str):
    """Loads the judge, with the words and the scale of its training.

    Args:
      path: a workdir, of which `writes_scores`.

    Raises:
      InputError: if it cannot be read.
    """
    section, policy = _section(path), open_policy(path)
    self._low, self._high = section["low"], section["high"]
    given = section.get("wording")
    self._wording = convert(Wording, given, "wording") if given else ENGLISH if section["path"] else ARITHMETIC
    self._format, self._tokenizer, self._model = format_of_run(local_path(path)), policy.tokenizer, policy.model
    self._longest = read_json(local_path(path))["eval"]["max_new_tokens"]
    self._mesh = make_mesh({}, jax.local_devices()[:1])
    self._params = sampler_params(policy, self._mesh)
    scale = dict(low=self._low, high=self._high, mark=self._wording.shown_mark)
    self._reader = ScoreReader(policy.model, policy.tokenizer, self._mesh, **scale)
    self._engines: dict[int, Engine] = {}

  def __call__(self, rows: Sequence[tuple[Any, str]]) -> np.ndarray:
    """Returns float64 [N].

    Raises:
      InputError: if a text is not in the judge's alphabet, or is longer than its context.
    """
    found = np.full(len(rows), math.nan)
    # An answer that ends the question or speaks for the judge would score itself.
    special, encode = self._tokenizer.is_special, self._tokenizer.encode
    asked = [place for place, (_, answer) in enumerate(rows) if not any(map(special, encode(answer)))]
    if asked:
      questions = [self._question(*rows[place]) for place in asked]
      prompts, _ = make_prompts(
        [Row({"prompt": text}, "--judge") for text in questions],
        self._tokenizer,
        max_length=_UNBOUNDED,
        prompt_format=self._format,
        answer_required=False,
      )
      found[asked] = self._scores(prompts)
    return found

  def _question(self, prompt: str | Sequence[Mapping[str, Any]], answer: str) -> str:
    return judgement_prompt(prompt, answer, low=self._low, high=self._high, wording=self._wording)

  def _scores(self, prompts: Sequence[Prompt]) -> np.ndarray:
    # In steps, so that other answers of about this length do not compile anew.
    longest = max(len(prompt.tokens) for prompt in prompts)
    length = max(longest, min(bucket(longest), (self._model.max_position_embeddings or _UNBOUNDED) - self._longest))
    if length not in self._engines:
      self._engines[length] = Engine(
        self._model,
        SamplingConfig(temperature=0.0, stop_ids=self._tokenizer.stop_ids),
        Sizes(slots=_SLOTS, max_prompt_length=length, max_new_tokens=self._longest, share=1),
        seed=0,
        mesh=self._mesh,
      )
    engine = self._engines[length]
    engine.load(self._params, 0)
    judged = self._reader.with_texts(engine.generate(prompts, 1))
    engine.unload()
    return self._reader.expected(self._params, judged)[:, 0]


def _section(path: str) -> Mapping[str, Any]:
  """Returns the section about judgements of a run's config; an empty one if there is none."""
  if not (local_path(path) / CONFIG_FILE).exists():
    return {}
  found = read_json(local_path(path)).get("demonstrations")
  return found if isinstance(found, Mapping) else {}
