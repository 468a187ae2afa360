"""Writes a model's answers to prompts, for people to read."""

import jax

from posttrain_jax.assembly.judges import answer_text
from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.rollout_engine import EngineSettings, SamplingSettings, longest, make_engine
from posttrain_jax.data.prompts import OverLimit, PromptFormat, Row, make_prompts
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import unstack_layers
from posttrain_jax.types import FinishReason, InputError

_NO_LIMIT = 2**31 - 1
_MAX_SLOTS = 32


def generate(
  policy: Policy,
  rows: list[Row],
  prompt_format: PromptFormat,
  sampling: SamplingSettings,
  *,
  max_new_tokens: int,
  samples: int = 1,
  seed: int = 0,
) -> list[list[str]]:
  """Draws answers to prompts on one device.

  Args:
    policy: a language model with its parameters.
    rows: each has a prompt or messages; no answer is needed.
    prompt_format: how a row becomes what the model reads.
    sampling: how tokens are drawn; a temperature of 0 takes the most likely ones.
    max_new_tokens: cap on an answer.
    samples: answers to each prompt.
    seed: of the draws.

  Returns:
    `samples` texts for each row, without the token that ends them.

  Raises:
    InputError: if the model is a reward model, if a row is not fit for use, or if a setting means nothing; before
      anything is compiled.
  """
  if policy.model.scalar_head:
    raise InputError("--model: is a reward model, expected a language model; experiments.score gives its rewards")
  prompts, _ = make_prompts(
    rows,
    policy.tokenizer,
    max_length=_NO_LIMIT,
    prompt_format=prompt_format,
    over_limit=OverLimit.ERROR,
    answer_required=False,
  )
  settings = EngineSettings(
    slots=min(_MAX_SLOTS, samples * len(prompts)),
    max_prompt_length=_NO_LIMIT,
    max_new_tokens=max_new_tokens,
    sampling=sampling,
  )
  mesh = make_mesh({}, jax.local_devices()[:1])
  engine = make_engine(settings, policy, mesh, seed=seed, max_prompt_length=longest(prompts), share=samples)
  params = jax.device_put(policy.params, jax.local_devices()[0])
  unstacked = jax.jit(lambda params: unstack_layers(params, policy.model.num_layers, policy.model.compute_dtype))
  engine.load(unstacked(params), 0)
  return [
    [
      answer_text(policy.tokenizer, answer.tokens, ended=answer.finish_reason == FinishReason.EOS)
      for answer in group.answers
    ]
    for group in engine.generate(prompts, samples)
  ]
