"""Describes the work that a benchmark times: model, prompts, answers and slots."""

import dataclasses

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import Transformer
from posttrain_jax.parallel.sharding import SAMPLER_RULES, state_shardings
from posttrain_jax.types import InputError, Prompt


@dataclasses.dataclass(frozen=True)
class Work:
  """Describes a benchmark's work.

  Attributes:
    model: the transformer; weights are random, which changes no cost.
    prompts: P, groups of a rollout or of an update.
    group: G, answers per prompt.
    prompt_length: most tokens of a prompt; every prompt has as many if `mean_length` is 0 or the mode is a rollout.
    new_tokens: most tokens of an answer; every answer has as many if `mean_length` is 0.
    slots: S, answers drawn at the same time.
    mean_length: mean of the geometric distribution of lengths before the cap; 0: all answers run into the cap.
    clip_length: longest answer if lengths are forced: then they are one list, whatever `new_tokens` is. 0: tokens end
      the answers.
    temperature: of sampling; 0 is greedy.
    steps_per_dispatch: decode steps before the host checks which answers have finished.
    logprob_chunk: most tokens whose logits the learner holds at a time.
    tokens_per_micro_batch: tokens that the learner computes at a time on a device; 0: chosen.
    runs: timed repetitions after the first call, which compiles.
    seed: of weights, prompts and draws.
  """

  model: TransformerConfig
  prompts: int = 8
  group: int = 8
  prompt_length: int = 64
  new_tokens: int = 128
  slots: int = 64
  mean_length: int = 0
  clip_length: int = 0
  temperature: float = 1.0
  steps_per_dispatch: int = 16
  logprob_chunk: int = 1024
  tokens_per_micro_batch: int = 0
  runs: int = 5
  seed: int = 0

  def __post_init__(self):
    """Raises InputError if a size is below 1 or `mean_length` is out of range."""
    for name in ("prompts", "group", "prompt_length", "new_tokens", "slots", "steps_per_dispatch", "runs"):
      if getattr(self, name) < 1:
        raise InputError(f"--{name}={getattr(self, name)}, expected at least 1")
    if not 0 <= self.mean_length <= self.model.vocab_size:
      raise InputError(f"--mean_length={self.mean_length}, expected 0 (equal lengths) or more")

    if self.clip_length and not (self.mean_length and 1 <= self.clip_length <= self.new_tokens):
      raise InputError(
        f"--clip_length={self.clip_length}, expected 1 to --new_tokens={self.new_tokens}, with a --mean_length"
      )

  @property
  def answers(self) -> int:
    """Returns P · G."""
    return self.prompts * self.group

  @property
  def stop_ids(self) -> tuple[int, ...]:
    """Returns every `mean_length`-th token id; none if `mean_length` is 0 or lengths are forced.

    Under random weights all ids are about equally likely, so each token ends its answer with probability
    1 / `mean_length`.
    """
    return tuple(range(0, self.model.vocab_size, self.mean_length)) if self.mean_length and not self.clip_length else ()

  def limit_of(self, prompt: Prompt, sample: int) -> int:
    """Returns the forced length of an answer, drawn from the geometric distribution and clipped."""
    random = np.random.default_rng((self.seed, prompt.index, sample))
    return min(int(random.geometric(1 / self.mean_length)), self.clip_length)

  def draw_prompts(self, attempt: int = 0) -> list[Prompt]:
    """Returns P prompts of random tokens; another attempt draws other answers to the same prompts."""
    random = np.random.default_rng(self.seed)
    tokens = random.integers(0, self.model.vocab_size, (self.prompts, self.prompt_length))
    return [Prompt(i, tuple(map(int, row)), row={}, attempt=attempt) for i, row in enumerate(tokens)]


def random_sampler_params(work: Work, mesh: Mesh) -> nnx.State:
  """Makes random weights in the sampler's form: a list of layers, compute dtype, sampler layout."""
  unstacked = dataclasses.replace(work.model, stacked=False)

  def make():
    params = nnx.state(Transformer(unstacked, nnx.Rngs(params=work.seed)))
    return jax.tree.map(lambda x: x.astype(work.model.compute_dtype), params)

  return jax.jit(make, out_shardings=state_shardings(jax.eval_shape(make), mesh, SAMPLER_RULES))()
