"""Lists the programs of a rollout and of a collection, with abstract arguments."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.rollout_engine import RolloutSettings, make_engine, rollout_engine
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.models import flops
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.performance.compile.program import Program, RunPrograms, bytes_per_device
from posttrain_jax.performance.counts import Copy, Pass, PassKind
from posttrain_jax.pipelines.collect_settings import SampledCollection
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.pages import PAGE, pages_for
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import Prompt


def of_rollout(
  rollout: RolloutSettings,
  policy: Policy,
  learner: PolicyLearner,
  mesh: Mesh,
  *,
  prompts: int,
  answer_length: int,
  carries: bool,
) -> RunPrograms:
  """Returns the rollout engine's programs and the hand-over, with the engine's arrays.

  Args:
    rollout: the config's section.
    policy: the model, and any tokeniser whose vocabulary fits.
    learner: with an abstract state.
    mesh: mesh of the engine.
    prompts: prompts that a step draws answers to.
    answer_length: tokens of each answer in the counts of work.
    carries: whether a step may end with unfinished answers, which the next step resumes.
  """
  model = policy.model
  longest = Prompt(index=0, tokens=(0,) * rollout.max_prompt_length, row={})
  engine = rollout_engine(rollout, policy, [longest], mesh, seed=0)
  trained = abstract_like(learner.state, learner.shardings).params
  handover = make_handover(trained, num_layers=model.num_layers, dtype=model.compute_dtype, mesh=mesh)
  copies = isinstance(handover, jax.stages.Wrapped)  # otherwise the sampler uses the learner's own arrays
  params, holder = (handover.eval_shape(trained), "sampler") if copies else (trained, "policy")
  resumed = rollout.slots if carries else 0
  found = drawing(
    engine,
    model,
    params,
    holder,
    mesh,
    prompts=prompts,
    answers=rollout.group_size,
    answer_length=answer_length,
    resumed=resumed,
  )
  if not copies:
    return found
  gathered = bytes_per_device(params)
  moving = Copy(bytes_per_device(trained) + gathered, gathered=gathered)
  program = Program(handover, (trained,), mesh, calls=1, work=moving, takes=("policy",))
  return dataclasses.replace(found, programs={**found.programs, "hand_over": program})


def of_collection(settings: SampledCollection, policy: Policy, mesh: Mesh, answer_length: int) -> RunPrograms:
  """Returns the programs that draw a collection's answers, of which a step is a round.

  Args:
    settings: the collection's.
    policy: the model, without parameters, and any tokeniser whose vocabulary fits.
    mesh: of the engine.
    answer_length: tokens of each answer in the counts of work.
  """
  rollout, model = settings.rollout, policy.model
  engine = make_engine(
    rollout, policy, mesh, seed=0, max_prompt_length=rollout.max_prompt_length, share=rollout.samples
  )
  return drawing(
    engine,
    model,
    abstract_sampler(model, mesh),
    "sampler",
    mesh,
    prompts=rollout.prompts,
    answers=rollout.samples,
    answer_length=answer_length,
    resumed=0,
  )


def abstract_sampler(model: TransformerConfig, mesh: Mesh) -> nnx.State:
  """Returns a model's abstract parameters in the sampler's layout."""
  _, given = abstract_transformer(model)
  return make_handover(given, num_layers=model.num_layers, dtype=model.compute_dtype, mesh=mesh).eval_shape(given)


def drawing(
  engine: Engine,
  model: TransformerConfig,
  params: nnx.State,
  holder: str,
  mesh: Mesh,
  *,
  prompts: int,
  answers: int,
  answer_length: int,
  resumed: int,
) -> RunPrograms:
  """Returns an engine's programs and its arrays.

  Args:
    engine: the engine.
    model: the policy.
    params: abstract parameters of the sampler.
    holder: name of these parameters among the run's arrays.
    mesh: mesh of the engine.
    prompts: prompts that a step draws answers to.
    answers: answers to each prompt.
    answer_length: tokens of each answer in the counts of work.
    resumed: unfinished answers that a step begins with.
  """
  sizes, found = engine.sizes, engine.abstract_calls(params)
  sample, caches = functools.partial(Pass, model, PassKind.SAMPLE), found["decode"][1][1]
  prefill = _prefills(
    sizes,
    sample,
    found["prefill"][1][2].tokens.shape,
    prompts=prompts,
    resumed=resumed,
    answer_length=answer_length,
  )
  held = jax.tree.leaves(caches)[0].shape[0]
  running, live = _running(sizes, held=held, answers=answers, answer_length=answer_length)
  drawn = running * sizes.steps_per_dispatch  # tokens of a dispatch
  decode = sample(
    tokens=drawn,
    pairs=drawn * (sizes.max_prompt_length + answer_length // 2),
    logits=drawn,
    parts=sizes.steps_per_dispatch,
    cache_tokens=live,
  )
  dispatches = math.ceil(prompts * answers / running) * math.ceil(answer_length / sizes.steps_per_dispatch)
  programs = {}
  for name, (count, work) in {"prefill": prefill, "decode": (dispatches, decode)}.items():
    function, arguments = found[name]
    programs[name] = Program(function, arguments, mesh, calls=count, work=work, takes=(holder, "caches"), frees=())
  return RunPrograms(programs, {holder: params, "caches": caches})


def _running(sizes: Sizes, *, held: int, answers: int, answer_length: int) -> tuple[int, float]:
  """Counts the answers that run at the same time, and what they read.

  All answers have one length and begin at different times. If the caches cannot hold an answer in each slot, fewer run.

  Args:
    sizes: the engine's.
    held: pages of the caches, on all devices.
    answers: answers to each prompt.
    answer_length: tokens of each answer.

  Returns:
    (answers, tokens of the pages that each step reads on average). A prompt's pages are read once for all answers of
    its group.
  """
  own = sum(pages_for(drawn, PAGE) for drawn in range(1, answer_length + 1)) / answer_length
  of_prompt = pages_for(sizes.max_prompt_length - 1, PAGE)
  running = min(sizes.slots, max(1, int(held / (own + of_prompt / answers))))
  return running, PAGE * (running * own + math.ceil(running / answers) * of_prompt)


def _prefills(
  sizes: Sizes,
  sample: Callable[..., Pass],
  shape: tuple[int, int],
  *,
  prompts: int,
  resumed: int,
  answer_length: int,
) -> tuple[int, Pass]:
  """Counts the prefills of a step, and the work of an average one.

  Args:
    sizes: the engine's.
    sample: makes the count.
    shape: chunks in one prefill, and tokens of a chunk.
    prompts: prompts of a step.
    resumed: unfinished answers that a step begins with.
    answer_length: tokens of each of them.
  """
  (width, chunk), prompt = shape, sizes.max_prompt_length - 1
  chunks = prompts * math.ceil(prompt / chunk) + resumed * math.ceil(answer_length / chunk)
  pairs = prompts * flops.causal(prompt) + resumed * (prompt * answer_length + flops.causal(answer_length))
  calls = max(1, math.ceil(chunks / width))
  return calls, sample(tokens=width * chunk, pairs=pairs // calls, logits=0)
