"""Draws groups of answers to prompts in a fixed number of slots.

A slot draws one answer at a time. When its answer ends, the slot takes the next request from the queue at the next
dispatch, so no slot waits for the longest answer of a batch. A prompt is prefilled once. Its G answers share its keys
and values, which a decode step reads once for all of them. A dispatch is one call of the decode program: it draws up to
`steps_per_dispatch` tokens in every slot without returning to the host.

Guarantees, each tested:
- With the same parameters, number of slots and `share`, a request's tokens and logprobs depend only on the seed, the
  prompt (its tokens, index and attempt) and the sample's number. They are the same bits in any slot, in any order and
  with any other requests around it.
- If pages run out, the youngest answers wait. Their bits stay the same, and the number of pages changes no bit.
- With another number of slots or another `share` they agree to rounding.
- If `suspend` interrupts an answer and `resume` continues it under the same parameters, it agrees to rounding with the
  uninterrupted answer. Where, in what order and with what other requests it continues changes no bit.

Which file to open:
- `engine.py`: the public methods, and the order of one `step`: fill free slots, decode, store tokens, end answers.
- `requests.py`: one request with what was drawn for it so far, and the engine's counts.
- `ledger.py`: which requests wait, run or are finished, and whose prompts are prefilled.
- `places.py`: which slot a request runs in, and which pages of the device's memory hold its tokens and its prompt.
- `pages.py`, `pool_size.py`: which pages are free, and how many there are.
- `page_lists.py`: the lists by which a dispatch finds the pages that it reads and writes.
- `device.py`: the memory on the device; pads requests to fixed shapes and calls the compiled programs.
- `sizes.py`: the numbers that fix these shapes.
- `programs.py`: the computation in those programs: prefill, fill, recompute, decode.
- `state.py`: the arrays that stay on the device between programs.
- `stop_strings.py`: where the text of an answer ends at a stop string.
- `draw.py`: one token from logits: temperature, truncation and the random draw.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax import progress
from posttrain_jax.models.config import Remat, TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.sampling.device import Device, LimitOf
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.ledger import Ledger
from posttrain_jax.sampling.pages import pages_for
from posttrain_jax.sampling.requests import EngineStats, Request
from posttrain_jax.sampling.sizes import Sizes, bucket_of
from posttrain_jax.sampling.stop_strings import Decode, tokens_to_stop
from posttrain_jax.types import FinishReason, Group, InputError, NotFinite, Prompt

STEPS_PER_DISPATCH, PREFILL_WIDTH = 16, 8  # unless a config says otherwise


class Engine:
  """Draws groups of answers to prompts.

  Submit prompts, then call `step` until `busy` is False. `generate` does both.

  Attributes:
    model: the transformer as the engine runs it: layers unstacked, nothing rematerialised.
    sampling: temperature, truncation, stop ids and stop strings.
    decode: turns ids into text, to find stop strings; may be None without them.
    seed: seed of all random draws.
    slots: S, answers drawn at the same time.
    max_prompt_length: length of the longest prompt accepted, in tokens.
    max_new_tokens: cap on the tokens of an answer.
    mesh: the devices.
    params: the loaded parameters; None before `load`.
    version: their version; -1 before `load`.
    stats: counts since the last `take_stats`.
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
    steps_per_dispatch: int = STEPS_PER_DISPATCH,
    prefill_width: int = PREFILL_WIDTH,
    share: int = 1,
    cache_tokens: int | None = None,
    limit_of: LimitOf | None = None,
    mesh: Mesh | None = None,
    decode: Decode | None = None,
  ):
    """Builds the programs. They are compiled, and memory is allocated, at the first use.

    Args:
      model: the transformer; its layers are used unstacked, whatever `model.stacked` says.
      sampling: temperature, truncation, stop ids.
      seed: fixes all random draws, together with prompt, sample and attempt.
      slots: S, answers drawn at the same time.
      max_prompt_length: length of the longest prompt in tokens.
      max_new_tokens: cap on the tokens of an answer, the stop id included.
      steps_per_dispatch: decode steps in one dispatch; a slot whose answer ends is idle for the rest of the dispatch.
      prefill_width: W, how many prompts (or resumed answers) one prefill takes. Also how many prefilled prompts are
        kept until all their answers have begun.
      share: T, how many answers to a prompt read one copy of its keys and values; the group size is best. The device
        holds 3 S / T copies, at most S. When no copy is free, the answers to further prompts wait.
      cache_tokens: tokens of prompts and answers that the caches hold together, on all devices. If they run out, the
        youngest answers wait. None: as many as the devices' memory allows (`pool_size.pages_per_shard`), and no more
        than the longest answers in all slots need.
      limit_of: gives an answer's own cap from its prompt and sample number; None: `max_new_tokens` for all.
      mesh: devices and layout; slots are split over `data` and `fsdp`, heads over `tensor`. One device if None.
      decode: turns ids into text; needed for stop strings.

    Raises:
      InputError: if the slots do not divide over the mesh's batch shards, a size is below 1, the model is a reward
        model, prompt and answer may be longer than its context, or there are stop strings without `decode`.
    """
    if model.scalar_head:
      raise InputError("model: is a reward model, expected a language model")
    if sampling.stop_strings and decode is None:
      raise InputError("sampling.stop_strings: given without a tokeniser, expected a model with one")
    model.check_context(
      max_prompt_length + max_new_tokens, f"prompts of up to {max_prompt_length} and answers of {max_new_tokens} tokens"
    )
    sizes = Sizes(
      slots=slots,
      max_prompt_length=max_prompt_length,
      max_new_tokens=max_new_tokens,
      steps_per_dispatch=steps_per_dispatch,
      prefill_width=prefill_width,
      share=share,
      cache_tokens=cache_tokens,
    )
    mesh = make_mesh({}, jax.local_devices()[:1]) if mesh is None else mesh
    if slots % batch_shards(mesh):
      raise InputError(f"rollout.slots: {slots} slots do not divide over data x fsdp = {batch_shards(mesh)} shards")
    self.model = dataclasses.replace(model, stacked=False, remat=Remat.NONE)
    self.sampling, self.seed, self.slots, self.decode = sampling, seed, slots, decode
    self.max_prompt_length, self.max_new_tokens = max_prompt_length, max_new_tokens
    self.mesh, self.version, self.params, self.stats = mesh, -1, None, EngineStats()
    self._device = Device(self.model, sampling, mesh, sizes, limit_of)
    self._places = self._device.places()
    self._ledger = Ledger(prefill_width, self._places)
    self._ended = 0  # answers since the engine was last idle

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
    return max(0, self.slots - self._ledger.unfinished)

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
    model.check_context(
      self.max_prompt_length + self.max_new_tokens,
      f"{where}: prompts of up to {self.max_prompt_length} and answers of {self.max_new_tokens} tokens",
    )

  def load(self, params: nnx.State, version: int) -> None:
    """Takes the parameters for all tokens drawn from now on; drops the caches.

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
    self._device.state = None  # a NaN in a cache would outlive the parameters that made it

  def release(self) -> None:
    """Frees the caches until the next use, so that other programs can have the memory.

    Raises:
      RuntimeError: if answers are under way.
    """
    if self.busy:
      raise RuntimeError("Engine.release while answers are under way")
    self._device.state = None

  def abstract_calls(self, params: nnx.State) -> dict[str, tuple[jax.stages.Wrapped, tuple]]:
    """Names the engine's programs, each with abstract arguments, to compile without running.

    Args:
      params: the sampler's parameters as ShapeDtypeStructs with shardings.

    Returns:
      name to (program, arguments), as `Device.abstract_calls` makes them.
    """
    return self._device.abstract_calls(params)

  def take_stats(self) -> EngineStats:
    """Returns the counts since the last call and starts new ones."""
    taken, self.stats = self.stats, EngineStats()
    return taken

  def submit(self, prompt: Prompt, group_size: int) -> None:
    """Queues a prompt for `group_size` answers.

    Raises:
      InputError: if the prompt is empty, longer than `max_prompt_length` or has an id that the model lacks, or if
        `group_size` is below 1.
      ValueError: if the prompt is already queued or running at the same attempt.
    """
    if group_size < 1:
      raise InputError(f"rollout.group_size: {group_size}, expected at least 1")
    if not 0 < len(prompt.tokens) <= self.max_prompt_length:
      raise InputError(
        f"prompt {prompt.index}: {len(prompt.tokens)} tokens, expected 1 to {self.max_prompt_length} "
        "(rollout.max_prompt_length)"
      )
    if not 0 <= min(prompt.tokens) <= max(prompt.tokens) < self.model.vocab_size:
      wrong = next(token for token in prompt.tokens if not 0 <= token < self.model.vocab_size)
      raise InputError(f"prompt {prompt.index}: token id {wrong}, expected 0 to {self.model.vocab_size - 1}")
    self._ledger.add(prompt, [None] * group_size)

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
      self._preempt()
      self._refill()
      drawn, still_active = self._device.decode(self.params, self._places)
    self.stats.dispatches += 1
    self.stats.decode_steps += int(drawn.steps)
    self.stats.slot_steps += int(drawn.steps) * self.slots

    # Not-a-number in any logit is one in the logprob of the token drawn from them.
    broken = drawn.active & ~np.isfinite(drawn.sampler_logprobs)
    if broken.any():
      prompt = self._ledger.running[int(np.argwhere(broken)[0][1])].prompt.index
      self.suspend()
      raise NotFinite(
        f"rollout: prompt {prompt} has logits that are not finite, under parameters of version {self.version}; "
        "no answer was kept"
      )

    completed, kept, ended = [], 0, []
    page, live = self._device.page, self._places.prompt_tokens
    self.stats.most_paged_tokens = max(self.stats.most_paged_tokens, self._places.pages_in_use * page)
    for slot, request in sorted(self._ledger.running.items()):
      count = int(drawn.active[:, slot].sum())  # a slot is active in the first steps of a dispatch, then no more
      request.tokens.append(drawn.tokens[:count, slot])
      request.sampler_logprobs.append(drawn.sampler_logprobs[:count, slot])
      request.drawn_logprobs.append(drawn.drawn_logprobs[:count, slot])
      request.versions.append(np.full((count,), self.version, np.int32))
      live += request.drawn
      stopped = self._cut_at_stop_string(request)
      kept += len(request.tokens[-1])
      if stopped and still_active[slot]:
        ended.append(slot)
      if stopped or not still_active[slot]:
        stopped = stopped or int(request.tokens[-1][-1]) in self.sampling.stop_ids
        completed += self._ledger.end(slot, FinishReason.EOS if stopped else FinishReason.LENGTH)
        self._ended += 1
    self.stats.most_live_tokens = max(self.stats.most_live_tokens, live)
    progress.report("answers", self._ended, self._ended + self._ledger.unfinished)
    if not self.busy:
      self._ended = 0
    if ended:
      with jax.set_mesh(self.mesh):
        self._device.end(ended)
    self.stats.idle_slot_steps += int(drawn.steps) * self.slots - kept
    self.stats.generated_tokens += kept
    return completed

  def _cut_at_stop_string(self, request: Request) -> bool:
    """Drops tokens after a stop string among the newest ones; says whether there is one."""
    strings = self.sampling.stop_strings
    kept = tokens_to_stop(request.tokens, strings, self.decode) if strings else None
    if kept is not None:
      request.keep(kept)
    return kept is not None

  def suspend(self) -> list[Group]:
    """Takes all unfinished groups out of the engine and drops the caches.

    The engine is idle afterwards, so `load` and `release` may follow. `resume` recomputes the keys and values.

    Returns:
      the unfinished groups in the order of their submission. Their unfinished answers are SUSPENDED and hold the tokens
      drawn so far, possibly none.
    """
    self._device.state, self._ended = None, 0
    return self._ledger.take_all()

  def resume(self, groups: Sequence[Group]) -> None:
    """Continues groups that `suspend` returned, queued in this order.

    A suspended answer keeps its tokens with their logprobs and versions. The rest is drawn under the parameters that
    are loaded now, with the same random numbers as without the interruption.

    Raises:
      ValueError: if one of the groups is already under way.
    """
    for group in groups:
      self._ledger.add(group.prompt, group.answers)

  def _preempt(self) -> None:
    """Gives running answers the pages that they need next.

    If too few are free, the youngest answers wait. Their keys and values go to the host and come back as they were, so
    no answer changes.
    """
    places, slots = self._places, {request: slot for slot, request in self._ledger.running.items()}
    ended = []
    for request in places.victims():
      ended.append(slots[request])
      if request.drawn:
        written = pages_for(request.drawn, self._device.page)
        request.saved = self._device.save(places.pages_of(request)[:written])
      self._ledger.preempt(slots[request])
    if ended:
      self._device.end(ended)
      self.stats.preemptions += len(ended)
    places.grow()

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
        return  # no row is free for the next prompt until other answers have ended
      device.fill(taken, self.seed)
      for request, place, _ in taken:
        if request.saved is not None:
          device.restore(request.saved, place.pages)
      resumed = [(request, place) for request, place, _ in taken if request.drawn and request.saved is None]
      device.recompute(self.params, resumed)
      for request, _, _ in taken:
        request.saved = None
      self.stats.recomputed_tokens += sum(request.length - 1 for request, _ in resumed)
