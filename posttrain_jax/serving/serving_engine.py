"""Makes the engine of a served model, whose requests each bring their own sampling."""

import dataclasses

import jax

from posttrain_jax.assembly.hand_over import sampler_params
from posttrain_jax.assembly.model import Policy
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.own_sampling import OwnSampling, PerRequest
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import Prompt

MOST_TOP_LOGPROBS = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineSizes:
  """Holds the sizes of a served model's engine.

  Attributes:
    slots: choices drawn at the same time.
    max_prompt_length: tokens of the longest prompt.
    max_new_tokens: cap on a choice in tokens.
    queue: most choices that wait for a slot.
    steps_per_dispatch: tokens that each slot draws between two looks at the queue.
  """

  slots: int
  max_prompt_length: int
  max_new_tokens: int
  queue: int
  steps_per_dispatch: int


def own_samplings(tokenizer: Tokenizer) -> PerRequest:
  """Returns which samplings requests may ask for."""
  return PerRequest(tokenizer.stop_ids, MOST_TOP_LOGPROBS)


def serving_engine(policy: Policy, sizes: EngineSizes) -> Engine:
  """Makes an engine on one device, and loads the policy's parameters.

  Raises:
    InputError: if it is a reward model, or the sizes do not fit it.
  """
  mesh = make_mesh({}, jax.local_devices()[:1])
  engine = Engine(
    policy.model,
    own_samplings(policy.tokenizer),
    Sizes(
      slots=sizes.slots,
      max_prompt_length=sizes.max_prompt_length,
      max_new_tokens=sizes.max_new_tokens,
      steps_per_dispatch=sizes.steps_per_dispatch,
    ),
    seed=0,  # requests have seeds of their own
    mesh=mesh,
    decode=policy.tokenizer.decode,
  )
  engine.load(sampler_params(policy, mesh), 0)
  return engine


def warm_up(engine: Engine) -> None:
  """Compiles all programs that requests need, so that the first one does not wait for it."""
  prompt = Prompt(-1, (0, 0)[: engine.sizes.max_prompt_length], {})
  engine.submit(prompt, 2, OwnSampling(SamplingConfig(), engine.sizes.max_new_tokens, 0, 0))
  engine.step()
  if engine.busy:
    engine.cancel(prompt)
  engine.take_stats()
