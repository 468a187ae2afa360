"""The rollout engine: slots, not batches.

Each prompt is prefilled once and its G answers share the result, which a decode step reads once for all of them; a slot
that finishes its answer is refilled from the queue at the next dispatch, so no slot waits for the longest answer of a
batch. A dispatch draws up to `steps_per_dispatch` tokens in every slot without coming back to the host.

Guarantees, each tested: with the same parameters, number of slots and `share`, the tokens and logprobs of a request
depend only on (seed, prompt index, sample, attempt) and on its prompt, bit for bit, whatever slot, order and company it
has. With other numbers of slots or of answers that share they agree to rounding. So do those of an answer that
`suspend` interrupts and `resume` goes on with, under the same parameters; where it goes on, in what order and company,
changes no bit.

What is where: `ledger` keeps the books on requests and `places` on where they run; `device` pads them and runs the
programs of `programs`.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.models.config import Remat, TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.sampling.device import Device, bucket_of
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.ledger import Ledger
from posttrain_jax.sampling.requests import EngineStats
from posttrain_jax.types import FinishReason, Group, InputError, Prompt


class Engine:
  """Draws groups of answers to prompts.

  Submit prompts, then call `step` until `busy` is False; or `generate`, which does both.
  """

  def __init__(
    self,
    model: TransformerConfig,
    sampling: SamplingConfig,
    *,
    seed: int,
    slots: int,
    max_prompt_length: int,
    max_new_tokens: int,
    steps_per_dispatch: int = 16,
    prefill_width: int = 8,
    prefill_buckets: Sequence[int] | None = None,
    share: int = 1,
    mesh: Mesh | None = None,
  ):
    """Builds the programs; memory is taken and programs are compiled at the first use.

    Args:
      model: the transformer; its layers are used unstacked, whatever `model.stacked` says.
      sampling: temperature, truncation, stop ids.
      seed: with prompt, sample and attempt it fixes all random draws.
      slots: answers drawn at the same time.
      max_prompt_length: longest prompt in tokens.
      max_new_tokens: cap on the tokens of an answer, the stop id included.
      steps_per_dispatch: decode steps without coming back to the host; a slot that finishes idles to their end.
      prefill_width: W, prompts (or answers taken up again) per prefill, and prompts that are kept ready until all
        their answers have begun.
      prefill_buckets: lengths that prompts are padded to for prefill, one program each, the longest
        `max_prompt_length`; `length_buckets` of it if None.
      share: T, how many answers to a prompt read one copy of its keys and values: best all of them. There is room for
        3 S / T prompts, at most S, with S slots; where more would be under way at a time, their answers wait.
      mesh: devices and layout; slots are split over `data` and `fsdp`, heads over `tensor`. One device if None.

    Raises:
      InputError: slots that do not divide by the mesh's batch shards, sizes below 1, or a model without logits.
    """
    if model.scalar_head:
      raise InputError("model: is a reward model, expected a language model")
    mesh = make_mesh({}, jax.local_devices()[:1]) if mesh is None else mesh
    sizes = dict(slots=slots, max_prompt_length=max_prompt_length, max_new_tokens=max_new_tokens)
    others = dict(steps_per_dispatch=steps_per_dispatch, prefill_width=prefill_width, share=share)
    for name, size in {**sizes, **others}.items():
      if size < 1:
        raise InputError(f"rollout.{name}: {size}, expected at least 1")
    if slots % batch_shards(mesh):
      raise InputError(f"rollout.slots: {slots} slots do not divide over data x fsdp = {batch_shards(mesh)} shards")
    self.model = dataclasses.replace(model, stacked=False, remat=Remat.NONE)
    self.sampling, self.seed, self.slots = sampling, seed, slots
    self.max_prompt_length, self.max_new_tokens = max_prompt_length, max_new_tokens
    self.prefill_width = prefill_width
    self.mesh, self.version, self.params, self.stats = mesh, -1, None, EngineStats()
    self._device = Device(self.model, sampling, mesh, **sizes, **others, prefill_buckets=prefill_buckets)
    self._places = self._device.places()
    self._ledger = Ledger(prefill_width, self._places)
    self.buckets = self._device.buckets
    if self.buckets[0] < 1 or self.buckets[-1] != max_prompt_length:
      found = f"rollout.prefill_buckets: {self.buckets}"
      raise InputError(f"{found}, expected lengths up to max_prompt_length {max_prompt_length}")

  @property
  def busy(self) -> bool:
    """True while a submitted answer is not finished."""
    return self._ledger.unfinished > 0

  @property
  def free_slots(self) -> int:
    """Slots that the next dispatch would leave empty."""
    return max(0, self.slots - self._ledger.unfinished)

  def load(self, params: nnx.State, version: int) -> None:
    """Takes parameters (unstacked, in the sampler's layout) for all tokens drawn from now on; empties the caches.

    `suspend` before and `resume` after it where answers are to go on under other parameters.

    Args:
      params: what `parallel.reshard` makes of the learner's parameters.
      version: their version, recorded with each token.

    Raises:
      RuntimeError: answers are under way: the keys and values in their caches are those of other parameters.
    """
    if self.busy:
      raise RuntimeError("Engine.load while answers are under way")
    self.params, self.version = params, version
    self._device.state = None  # a NaN in a cache would outlive the parameters that made it

  def release(self) -> None:
    """Frees the caches until the next use, so that a learner or another engine can have the memory.

    Raises:
      RuntimeError: answers are under way.
    """
    if self.busy:
      raise RuntimeError("Engine.release while answers are under way")
    self._device.state = None

  def abstract_calls(self, params: nnx.State) -> dict[str, tuple[jax.stages.Wrapped, tuple]]:
    """The engine's programs by name with their arguments for abstract parameters, to be compiled and not run."""
    return self._device.abstract_calls(params)

  def take_stats(self) -> EngineStats:
    """Returns the counts since the last call and starts new ones."""
    taken, self.stats = self.stats, EngineStats()
    return taken

  def submit(self, prompt: Prompt, group_size: int) -> None:
    """Queues a prompt for `group_size` answers.

    Raises:
      InputError: an empty prompt or one over `max_prompt_length`, or no answers wanted.
      ValueError: the prompt is queued or running already at the same attempt.
    """
    if group_size < 1:
      raise InputError(f"rollout.group_size: {group_size}, expected at least 1")
    if not 0 < len(prompt.tokens) <= self.max_prompt_length:
      raise InputError(
        f"prompt {prompt.index}: {len(prompt.tokens)} tokens, expected 1 to {self.max_prompt_length} "
        "(rollout.max_prompt_length)"
      )
    self._ledger.add(prompt, [None] * group_size)

  def generate(self, prompts: Iterable[Prompt], group_size: int) -> list[Group]:
    """Submits prompts and runs until all are answered; groups come back in the order of the prompts.

    Raises:
      InputError: as `submit` does.
      RuntimeError: other answers are under way, whose groups would be lost.
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
    """Refills free slots, runs one dispatch, and returns the groups that it completed, in slot order."""
    if self.params is None:
      raise RuntimeError("Engine.step before Engine.load")
    with jax.set_mesh(self.mesh):
      self._device.allocate()
      self._refill()
      drawn, going_on = self._device.decode(self.params)
    self.stats.dispatches += 1
    self.stats.decode_steps += int(drawn.steps)
    self.stats.slot_steps += int(drawn.steps) * self.slots
    self.stats.idle_slot_steps += int(drawn.steps) * self.slots - int(drawn.active.sum())
    self.stats.generated_tokens += int(drawn.active.sum())

    completed = []
    for slot, request in sorted(self._ledger.running.items()):
      count = int(drawn.active[:, slot].sum())  # a slot is active in the first steps of a dispatch, then no more
      request.tokens.append(drawn.tokens[:count, slot])
      request.sampler_logprobs.append(drawn.sampler_logprobs[:count, slot])
      request.drawn_logprobs.append(drawn.drawn_logprobs[:count, slot])
      request.versions.append(np.full((count,), self.version, np.int32))
      if not going_on[slot]:
        stopped = int(request.tokens[-1][-1]) in self.sampling.stop_ids
        completed += self._ledger.end(slot, FinishReason.EOS if stopped else FinishReason.LENGTH)
    return completed

  def cancel(self, prompts: Sequence[Prompt]) -> list[Group]:
    """Drops what is left of these prompts' answers; unfinished ones come back as CANCELLED with what they have."""
    slots, groups = self._ledger.drop({(prompt.index, prompt.attempt) for prompt in prompts})
    if slots:
      self._device.stop(slots)
    return groups

  def suspend(self) -> list[Group]:
    """Takes everything under way out of the engine, which is then idle: `load` and `release` may follow.

    Returns:
      The groups under way in the order of their submission. Unfinished answers are SUSPENDED with what was drawn for
      them, which may be nothing. Keys and values are given up: `resume` computes them anew.
    """
    self._device.state = None
    return self._ledger.take_all()

  def resume(self, groups: Sequence[Group]) -> None:
    """Goes on with groups that `suspend` returned, as if they had been submitted in this order.

    A suspended answer keeps its tokens with their logprobs and versions, and draws the rest under the parameters that
    are loaded now, with the random numbers that it would have drawn it with.

    Raises:
      ValueError: one of them is under way already.
    """
    for group in groups:
      self._ledger.add(group.prompt, group.answers)

  def _refill(self) -> None:
    """Gives free slots to interrupted answers, then to the queue; prefills what they need."""
    ledger, device = self._ledger, self._device
    while ledger.waiting and self._places.free:
      prompts = ledger.take_unfilled(lambda length: bucket_of(device.buckets, length))
      if prompts:
        device.prefill(self.params, prompts)
        self.stats.prefill_tokens += sum(len(prompt.tokens) - 1 for _, prompt in prompts)
      taken = ledger.take_next()
      if not taken:
        return  # its prompt finds no room before others have ended
      device.fill(taken, self.seed)
      under_way = [(request, place.slot) for request, place, _ in taken if request.drawn]
      device.recompute(self.params, under_way)
      self.stats.recomputed_tokens += sum(request.length - 1 for request, _ in under_way)
