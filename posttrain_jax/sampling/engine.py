"""Draws groups of answers to prompts in a fixed number of slots.

A slot draws one answer at a time. When its answer ends, the slot takes the next request from the queue at the next
dispatch, so no slot waits for the longest answer of a batch. A prompt is prefilled once, in chunks. Its G answers
share its keys and values, which a decode step reads once for all of them. A dispatch is one call of the decode program:
it draws up to `steps_per_dispatch` tokens in every slot without returning to the host.

Guarantees, each tested:
- With the same parameters, number of slots, `share`, `prefill_chunk` and `prefill_width`, a request's tokens and
  logprobs depend only on the seed, the prompt (its tokens, index and attempt) and the sample's number. They are the
  same bits in any slot, in any order and with any other requests around it.
- If each request brings its own sampling (`PerRequest`), they depend only on that, its seed included, on the prompt's
  tokens and on the sample's number, whatever the others' sampling is.
- If pages run out, the youngest answers wait. Their bits stay the same, and the number of pages changes no bit.
- With other numbers of these they agree to rounding. How many prefills run between dispatches changes no bit.
- If `suspend` interrupts an answer and `resume` continues it under the same parameters, it agrees to rounding with the
  uninterrupted answer. Where, in what order and with what other requests it continues changes no bit.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import jax
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax import progress
from posttrain_jax.models.config import Remat, TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.sampling.device import Device, LimitOf
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.ledger import Ledger
from posttrain_jax.sampling.own_sampling import OwnSampling, PerRequest
from posttrain_jax.sampling.requests import EngineStats, check_prompt
from posttrain_jax.sampling.results import NewTokens, not_finite, store
from posttrain_jax.sampling.scheduler import Scheduler
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.sampling.stop_strings import Decode
from posttrain_jax.types import Group, InputError, NotFinite, Prompt


class Engine:
  """Draws groups of answers to prompts.

  Submit prompts, then call `step` until `busy` is False. `generate` does both.

  Attributes:
    model: the transformer as the engine runs it: layers unstacked, nothing rematerialised.
    sampling: temperature, truncation, stop ids and stop strings; or that each request has its own.
    sizes: slots, the longest prompt accepted, the cap on an answer, and what else fixes the programs' shapes.
    decode: turns ids into text, to find stop strings; may be None without them.
    seed: seed of all random draws.
    mesh: the devices.
    params: the loaded parameters; None before `load` and after `unload`.
    version: their version; -1 before `load`.
    stats: counts since the last `take_stats`.
    new: what the last `step` added to each answer that ran.
  """

  def __init__(
    self,
    model: TransformerConfig,
    sampling: SamplingConfig | PerRequest,
    sizes: Sizes,
    *,
    seed: int,
    limit_of: LimitOf | None = None,
    mesh: Mesh | None = None,
    decode: Decode | None = None,
  ):
    """Builds the programs. They are compiled, and memory is allocated, at the first use.

    Args:
      model: the transformer; its layers are used unstacked, whatever `model.stacked` says.
      sampling: temperature, truncation, stop ids. `PerRequest` makes an engine of whose requests each brings its own.
      sizes: slots, prompts, answers, prefills and caches.
      seed: fixes all random draws, together with prompt, sample and attempt.
      limit_of: gives an answer's own cap from its prompt and sample number; None: `sizes.max_new_tokens` for all.
      mesh: devices and layout; slots are split over `data` and `fsdp`, heads over `tensor`. One device if None.
      decode: turns ids into text; needed for stop strings.

    Raises:
      InputError: if the slots do not divide over the mesh's batch shards, the model is a reward model, prompt and
        answer may be longer than its context, or there are stop strings without `decode`.
    """
    if model.scalar_head:
      raise InputError("model: is a reward model, expected a language model")
    if isinstance(sampling, SamplingConfig) and sampling.stop_strings and decode is None:
      raise InputError("sampling.stop_strings: given without a tokeniser, expected a model with one")
    sizes.check_context(model)
    mesh = make_mesh({}, jax.local_devices()[:1]) if mesh is None else mesh
    self.model = dataclasses.replace(model, stacked=False, remat=Remat.NONE)
    self.sampling, self.sizes, self.seed, self.decode = sampling, sizes, seed, decode
    self.mesh, self.version, self.params, self.stats = mesh, -1, None, EngineStats()
    self.new: list[NewTokens] = []
    self._device = Device(self.model, sampling, mesh, sizes, limit_of)
    self._places = self._device.places()
    self._ledger = Ledger(self._places)
    self._scheduler = Scheduler(self._device, self._ledger, self._places, sizes.prefills_per_dispatch)

  @property
  def busy(self) -> bool:
    """Says whether a submitted answer is unfinished."""
    return self._ledger.unfinished > 0

  @property
  def cache_bytes(self) -> int:
    """Returns the size of the caches on all devices, in bytes."""
    return self._device.cache_bytes

  @property
  def free_slots(self) -> int:
    """Counts the slots that the next dispatch would leave empty."""
    return max(0, self.sizes.slots - self._ledger.unfinished)

  def check_reader(self, model: TransformerConfig, where: str) -> None:
    """Refuses a reader of the answers whose context is shorter than they may become.

    Args:
      model: such as a reward model, a value model or a teacher.
      where: the config field that names it.

    Raises:
      InputError: if prompt and answer may be longer than its context, and neither it nor the engine's model may go
        beyond that.
    """
    model = dataclasses.replace(model, beyond_context=model.beyond_context or self.model.beyond_context)
    self.sizes.check_context(model, f"{where}: ")

  def load(self, params: nnx.State, version: int) -> None:
    """Takes the parameters for all tokens drawn from now on.

    The caches keep their memory. Nothing that is in them is read again: pages are written whole before they are read.
    To continue unfinished answers under other parameters, call `suspend` before it and `resume` after it.

    Args:
      params: unstacked parameters in the sampler's layout, as `parallel.reshard` makes them from the learner's.
      version: their version, recorded with each token.

    Raises:
      RuntimeError: if answers are under way. Their caches hold keys and values of the earlier parameters.
    """
    if self.busy:
      raise RuntimeError("Engine.load while answers are under way")
    self.params, self.version = params, version

  def release(self) -> None:
    """Frees the caches until the next use, so that other programs can have the memory.

    Raises:
      RuntimeError: if answers are under way.
    """
    if self.busy:
      raise RuntimeError("Engine.release while answers are under way")
    self._device.state = None

  def unload(self) -> None:
    """Frees the caches and lets go of the parameters; what is drawn next needs `load` before.

    Raises:
      RuntimeError: if answers are under way.
    """
    self.release()
    self.params = None

  def abstract_calls(self, params: nnx.State) -> dict[str, tuple[jax.stages.Wrapped, tuple]]:
    """Names the programs that run the model, each with abstract arguments, as `Device.abstract_calls` does."""
    return self._device.abstract_calls(params)

  def take_stats(self) -> EngineStats:
    """Returns the counts since the last call and starts new ones."""
    taken, self.stats = self.stats, EngineStats()
    return taken

  def submit(self, prompt: Prompt, group_size: int, own: OwnSampling | None = None) -> None:
    """Queues a prompt for `group_size` answers.

    Args:
      prompt: the prompt.
      group_size: how many.
      own: how they are drawn, if each request has its own sampling; else None.

    Raises:
      InputError: if the prompt is empty, longer than `sizes.max_prompt_length` or has an id that the model lacks, if
        `group_size` is below 1, or if its sampling is out of range.
      ValueError: if the prompt is already queued or running at the same attempt, or if it brings a sampling and should
        not, or the other way round.
    """
    self._check_own(own)
    if group_size < 1:
      raise InputError(f"rollout.group_size: {group_size}, expected at least 1")
    check_prompt(prompt, longest=self.sizes.max_prompt_length, vocab_size=self.model.vocab_size)
    self._ledger.add(prompt, [None] * group_size, own)

  def _check_own(self, own: OwnSampling | None) -> None:
    if isinstance(self.sampling, PerRequest) != (own is not None):
      raise ValueError("Engine: a request brings its own sampling if and only if the engine is made PerRequest")
    if own is not None:
      own.check(self.sampling)
      if own.config.stop_strings and self.decode is None:
        raise InputError("sampling.stop_strings: given without a tokeniser, expected a model with one")

  def cancel(self, prompt: Prompt) -> None:
    """Ends all answers to a prompt that is queued or running. Nothing of them is returned.

    No other answer changes by a bit, and the slots are free at the next `step`.

    Raises:
      KeyError: if it is not under way at this attempt.
    """
    if ended := self._ledger.cancel((prompt.index, prompt.attempt)):
      with jax.set_mesh(self.mesh):
        self._device.end(ended)

  def generate(self, prompts: Iterable[Prompt], group_size: int) -> list[Group]:
    """Submits prompts and runs until all are answered.

    Returns:
      one group for each prompt, in the order of the prompts.

    Raises:
      InputError: as `submit` does.
      RuntimeError: if other answers are under way, since their groups would be lost.
    """
    if self.busy:
      raise RuntimeError("Engine.generate while answers are under way")
    prompts = list(prompts)
    for prompt in prompts:
      self.submit(prompt, group_size)
    done = {}
    while self.busy:
      done.update({(group.prompt.index, group.prompt.attempt): group for group in self.step()})
    return [done[prompt.index, prompt.attempt] for prompt in prompts]

  def step(self) -> list[Group]:
    """Fills free slots and runs one dispatch.

    Returns:
      the groups whose last answer ended in this dispatch, in the order of the slots.

    Raises:
      RuntimeError: if no parameters are loaded.
      NotFinite: if a token was drawn from logits that are not finite. Then the engine is idle, and no answer is kept.
    """
    if self.params is None:
      raise RuntimeError("Engine.step before Engine.load")
    with jax.set_mesh(self.mesh):
      self._device.allocate()
      self._scheduler.prepare(self.params, self.seed, self.stats)
      drawn, still_active = self._device.decode(self.params, self._places)
    if (broken := not_finite(drawn, self._ledger)) is not None:
      self.suspend()
      raise NotFinite(
        f"rollout: prompt {broken.index} has logits that are not finite, under parameters of version {self.version}; "
        "no answer was kept"
      )
    live = self._places.prompt_tokens + sum(request.drawn for request in self._ledger.beginning.values())
    paged = self._places.pages_in_use * self._device.layout.page
    found = store(drawn, still_active, self._ledger, version=self.version, sampling=self.sampling, decode=self.decode)
    self.new = found.new
    if found.cut:
      with jax.set_mesh(self.mesh):
        self._device.end(found.cut)
    self.stats.add_dispatch(int(drawn.steps), self.sizes.slots, found.kept, live=live + found.live, paged=paged)
    progress.report("answers", self._ledger.ended, self._ledger.ended + self._ledger.unfinished)
    return found.completed

  def suspend(self) -> list[Group]:
    """Takes all unfinished groups out of the engine.

    The engine is idle afterwards, so `load` and `release` may follow. `resume` recomputes the keys and values.

    Returns:
      the unfinished groups in the order of their submission. Their unfinished answers are SUSPENDED and hold the tokens
      drawn so far, possibly none.
    """
    if running := self._ledger.running:
      with jax.set_mesh(self.mesh):
        self._device.end(list(running))
    return self._ledger.take_all()

  def resume(self, groups: Sequence[Group], own: Sequence[OwnSampling] | None = None) -> None:
    """Continues groups that `suspend` returned, queued in this order.

    A suspended answer keeps its tokens with their logprobs and versions. The rest is drawn under the parameters that
    are loaded now, with the same random numbers as without the interruption.

    Args:
      groups: the groups.
      own: the sampling of each, if each request has its own; else None.

    Raises:
      ValueError: if one of the groups is already under way.
    """
    for group, sampling in zip(groups, own or [None] * len(groups), strict=True):
      self._check_own(sampling)
      self._ledger.add(group.prompt, group.answers, sampling)
