"""The rollout engine: slots, not batches.

Each prompt is prefilled once and its G answers share the result; a slot that finishes its answer is refilled from the
queue at the next dispatch, so no slot waits for the longest answer of a batch. A dispatch draws up to
`steps_per_dispatch` tokens in every slot without coming back to the host.

Guarantees, each tested: with the same parameters and the same number of slots, the tokens and logprobs of a request
depend only on (seed, prompt index, sample, attempt) and on its prompt, bit for bit, whatever slot, order and company it
has. With another number of slots they agree to rounding.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterable, Sequence

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import BATCH, batch_shards
from posttrain_jax.sampling import programs
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.requests import EngineStats, Request
from posttrain_jax.types import Answer, FinishReason, Group, InputError, Prompt


def length_buckets(longest: int) -> tuple[int, ...]:
  """Prefill lengths to compile: the longest prompt, its half and its quarter, none shorter than 32 but the longest."""
  return tuple(sorted({longest, *(-(-longest // part) for part in (4, 2) if longest >= 32 * part)}))


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
      prefill_width: W, prompts per prefill and prompts whose keys and values are kept until all samples have begun.
      prefill_buckets: lengths that prompts are padded to for prefill, one program each, the longest
        `max_prompt_length`; `length_buckets` of it if None.
      mesh: devices and layout; slots are split over `data` and `fsdp`, heads over `tensor`. One device if None.

    Raises:
      InputError: slots that do not divide by the mesh's batch shards, sizes below 1, or a model without logits.
    """
    if model.scalar_head:
      raise InputError("model: is a reward model, expected a language model")
    mesh = make_mesh({}, jax.devices()[:1]) if mesh is None else mesh
    sizes = dict(slots=slots, max_prompt_length=max_prompt_length, max_new_tokens=max_new_tokens)
    for name, size in {**sizes, "steps_per_dispatch": steps_per_dispatch, "prefill_width": prefill_width}.items():
      if size < 1:
        raise InputError(f"rollout.{name}: {size}, expected at least 1")
    if slots % batch_shards(mesh):
      raise InputError(f"rollout.slots: {slots} slots do not divide over data x fsdp = {batch_shards(mesh)} shards")
    self.model = dataclasses.replace(model, stacked=False)
    self.sampling, self.seed, self.slots = sampling, seed, slots
    self.max_prompt_length, self.max_new_tokens = max_prompt_length, max_new_tokens
    self.prefill_width = prefill_width
    self.buckets = tuple(sorted(prefill_buckets)) if prefill_buckets else length_buckets(max_prompt_length)
    if self.buckets[0] < 1 or self.buckets[-1] != max_prompt_length:
      raise InputError(
        f"rollout.prefill_buckets: {self.buckets}, expected lengths up to max_prompt_length {max_prompt_length}"
      )
    # S, rows of the cache: of another number than a multiple of 8 the last few would be computed without vector
    # instructions, and the last bit of a logprob would depend on the slot. The rows beyond `slots` stay empty.
    unit = 8 * batch_shards(mesh)
    self._rows = -(-slots // unit) * unit
    self.mesh, self.version, self.params = mesh, -1, None
    self.stats = EngineStats()

    self._queue: collections.deque[Request] = collections.deque()
    self._running: dict[int, Request] = {}  # by slot
    self._finished: dict[tuple[int, int], dict[int, Answer]] = {}  # by (prompt index, attempt), then sample
    self._sizes: dict[tuple[int, int], int] = {}
    self._pool: dict[tuple[int, int], int] = {}  # prompt to row of the pool of prefixes
    self._device: tuple | None = None  # (cache, slots, pool)

    graph, _ = abstract_transformer(self.model)
    cache, rows = self._sharding(BATCH, None, "tensor"), self._sharding(BATCH)
    pool, whole = self._sharding(None, None, "tensor"), self._sharding()
    self._prefill = jax.jit(functools.partial(programs.prefill, graph), donate_argnums=1, out_shardings=pool)
    self._fill = jax.jit(programs.fill, donate_argnums=(0, 1), out_shardings=(cache, rows))
    self._decode = jax.jit(
      functools.partial(programs.decode, graph, steps=steps_per_dispatch, sampling=sampling),
      donate_argnums=(1, 2),
      out_shardings=(cache, rows, whole),
    )
    self._keys = jax.jit(programs.request_keys, out_shardings=whole)
    self._allocate = jax.jit(
      lambda: (
        programs.empty_cache(self.model, self._rows, max_prompt_length + max_new_tokens),
        programs.empty_slots(self._rows),
        programs.empty_cache(self.model, prefill_width, max_prompt_length),
      ),
      out_shardings=(cache, rows, pool),
    )

  def _sharding(self, *axes) -> NamedSharding:
    return NamedSharding(self.mesh, PartitionSpec(*axes))

  @property
  def busy(self) -> bool:
    """True while a submitted answer is not finished."""
    return bool(self._queue or self._running)

  def load(self, params: nnx.State, version: int) -> None:
    """Takes parameters (unstacked, in the sampler's layout) for all tokens drawn from now on; empties the caches.

    Args:
      params: what `parallel.reshard` makes of the learner's parameters.
      version: their version, recorded with each token.

    Raises:
      RuntimeError: answers are under way: the keys and values in their caches are those of other parameters.
    """
    if self.busy:
      raise RuntimeError("Engine.load while answers are under way")
    self.params, self.version = params, version
    self._device = None  # a NaN in a cache would outlive the parameters that made it

  def release(self) -> None:
    """Frees the caches until the next use, so that a learner or another engine can have the memory.

    Raises:
      RuntimeError: answers are under way.
    """
    if self.busy:
      raise RuntimeError("Engine.release while answers are under way")
    self._device = None

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
    name = (prompt.index, prompt.attempt)
    if name in self._sizes:
      raise ValueError(f"prompt {prompt.index} is under way already at attempt {prompt.attempt}")
    self._sizes[name], self._finished[name] = group_size, {}
    self._queue.extend(Request(prompt, sample) for sample in range(group_size))

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
      if self._device is None:
        self._device = self._allocate()
      self._refill()
      cache, slots, pool = self._device
      cache, slots, drawn = self._decode(self.params, cache, slots)
      self._device = (cache, slots, pool)
      drawn, going_on = jax.device_get((drawn, slots.active))
    self.stats.dispatches += 1
    self.stats.decode_steps += int(drawn.steps)
    self.stats.slot_steps += int(drawn.steps) * self.slots
    self.stats.idle_slot_steps += int(drawn.steps) * self.slots - int(drawn.active.sum())
    self.stats.generated_tokens += int(drawn.active.sum())

    completed = []
    for slot, request in sorted(self._running.items()):
      count = int(drawn.active[:, slot].sum())  # a slot is active in the first steps of a dispatch, then no more
      request.tokens.append(drawn.tokens[:count, slot])
      request.sampler_logprobs.append(drawn.sampler_logprobs[:count, slot])
      request.drawn_logprobs.append(drawn.drawn_logprobs[:count, slot])
      request.versions.append(np.full((count,), self.version, np.int32))
      if not going_on[slot]:
        del self._running[slot]
        stopped = int(request.tokens[-1][-1]) in self.sampling.stop_ids
        completed += self._finish(request, FinishReason.EOS if stopped else FinishReason.LENGTH)
    return completed

  def cancel(self, prompts: Sequence[Prompt]) -> list[Group]:
    """Drops what is left of these prompts' answers; unfinished ones come back as CANCELLED with what they have."""
    names = {(prompt.index, prompt.attempt) for prompt in prompts}
    belongs = lambda request: (request.prompt.index, request.prompt.attempt) in names  # noqa: E731
    waiting = [request for request in self._queue if belongs(request)]
    self._queue = collections.deque(request for request in self._queue if not belongs(request))
    stopped = {slot: request for slot, request in self._running.items() if belongs(request)}
    if stopped:
      cache, slots, pool = self._device
      keep = np.ones((self._rows,), bool)
      keep[list(stopped)] = False
      active = jax.device_put(np.asarray(slots.active) & keep, slots.active.sharding)
      self._device = (cache, dataclasses.replace(slots, active=active), pool)
    groups = []
    for request in [*stopped.values(), *waiting]:
      groups += self._finish(request, FinishReason.CANCELLED)
    for slot in stopped:
      del self._running[slot]
    for name in names:
      self._pool.pop(name, None)
    return groups

  def _finish(self, request: Request, reason: FinishReason) -> list[Group]:
    name = (request.prompt.index, request.prompt.attempt)
    answers = self._finished[name]
    answers[request.sample] = request.answer(reason)
    if len(answers) < self._sizes[name]:
      return []
    del self._finished[name], self._sizes[name]
    return [Group(prompt=request.prompt, answers=tuple(answers[i] for i in range(len(answers))))]

  def _refill(self) -> None:
    """Moves requests from the queue into free slots, prefilling their prompts first."""
    free = [slot for slot in range(self.slots) if slot not in self._running]
    while free and self._queue:
      self._prefill_waiting()
      taken, rows = [], []
      while free[len(taken) :] and self._queue:
        name = (self._queue[0].prompt.index, self._queue[0].prompt.attempt)
        if name not in self._pool:
          break
        request = self._queue.popleft()
        taken.append(request)
        rows.append(self._pool[name])
        if request.sample == self._sizes[name] - 1:  # samples are queued in order, so this was the last
          del self._pool[name]
      self._start(free[: len(taken)], taken, rows)
      free = free[len(taken) :]

  def _prefill_waiting(self) -> None:
    """Prefills the prompt at the head of the queue and those behind it that share its bucket, as the pool has room."""
    waiting = list({(r.prompt.index, r.prompt.attempt): r.prompt for r in self._queue}.items())
    if waiting[0][0] in self._pool:
      return
    bucket_of = lambda prompt: next(b for b in self.buckets if len(prompt.tokens) <= b)  # noqa: E731
    bucket = bucket_of(waiting[0][1])
    rows = [row for row in range(self.prefill_width) if row not in self._pool.values()]
    batch = [(name, prompt) for name, prompt in waiting if name not in self._pool and bucket_of(prompt) == bucket]
    tokens = np.zeros((self.prefill_width, bucket), np.int32)
    into = np.full((self.prefill_width,), self.prefill_width, np.int32)  # out of range: dropped
    for i, (row, (name, prompt)) in enumerate(zip(rows, batch)):
      # The last prompt token is left to decoding: it is the first token that a slot puts in.
      tokens[i, : len(prompt.tokens) - 1] = prompt.tokens[:-1]
      into[i] = row
      self._pool[name] = row
      self.stats.prefill_tokens += len(prompt.tokens) - 1
    cache, slots, pool = self._device
    self._device = (cache, slots, self._prefill(self.params, pool, tokens, into))

  def _start(self, free: Sequence[int], requests: Sequence[Request], rows: Sequence[int]) -> None:
    """Fills slots; arrays are padded to all S slots, so there is one program whatever their number."""
    pad = lambda values, fill: np.array([*values, *[fill] * (self.slots - len(values))], np.int32)  # noqa: E731
    prompts = [request.prompt for request in requests]
    new = programs.Slots(
      token=pad([prompt.tokens[-1] for prompt in prompts], 0),
      position=pad([len(prompt.tokens) - 1 for prompt in prompts], 0),
      drawn=pad([], 0),
      limit=pad([self.max_new_tokens] * len(requests), 0),
      active=np.arange(self.slots) < len(requests),
      key=self._keys(
        np.uint32(self.seed),
        pad([prompt.index for prompt in prompts], 0),
        pad([request.sample for request in requests], 0),
        pad([prompt.attempt for prompt in prompts], 0),
      ),
    )
    cache, slots, pool = self._device
    cache, slots = self._fill(cache, slots, pool, pad(free, self._rows), pad(rows, 0), new)
    self._device = (cache, slots, pool)
    self._running.update(zip(free, requests))
