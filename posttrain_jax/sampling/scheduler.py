"""Decides before each dispatch which answers leave their slots, which begin, and what is prefilled.

A running answer waits for prefills of a fixed number of tokens only. A long prompt takes several of them, with
dispatches in between.
"""

from flax import nnx

from posttrain_jax.sampling.chunk_plan import ChunkPlan, furthest_copies
from posttrain_jax.sampling.device import Device
from posttrain_jax.sampling.ledger import Ledger
from posttrain_jax.sampling.pages import pages_for
from posttrain_jax.sampling.places import Places
from posttrain_jax.sampling.requests import EngineStats


class Scheduler:
  """Prepares dispatches."""

  def __init__(self, device: Device, ledger: Ledger, places: Places, prefills: int):
    """Names what it works on.

    Args:
      device: runs the programs.
      ledger: which requests wait and run.
      places: who has which slots and pages.
      prefills: most prefills before a dispatch if answers run already.
    """
    self._device, self._ledger, self._places, self._prefills = device, ledger, places, prefills

  def prepare(self, params: nnx.State, seed: int, stats: EngineStats) -> None:
    """Prepares a dispatch: room for running answers, slots for waiting ones, prefills.

    Requests whose keys and values are complete draw from now on.

    Args:
      params: the sampler's parameters.
      seed: the engine's seed.
      stats: counts, which are raised.
    """
    self._make_room(stats)
    for request in self._ledger.place():
      if request.saved is not None:
        self._device.restore(request.saved, self._places.pages_of(request))
        self._places.placed[request].filled, request.saved = request.drawn, None
    if self._ledger.beginning:
      self._prefill(params, stats, most=self._prefills if self._ledger.running else None)
      self._begin(seed)

  def _make_room(self, stats: EngineStats) -> None:
    """Gives running answers the pages that they need next.

    If too few are free, the youngest answers wait. Their keys and values go to the host and come back as they were, so
    no answer changes.
    """
    places, ended = self._places, []
    for request in places.victims():
      ended.append(places.slot_of(request))
      has = places.placed[request]
      if request.drawn and (has.begun or has.filled == request.drawn):
        written = pages_for(request.drawn, self._device.layout.page)
        request.saved = self._device.save(places.pages_of(request)[:written])
      self._ledger.preempt(request)
    if ended:
      self._device.end(ended)
      stats.preemptions += len(ended)
    places.grow()

  def _prefill(self, params: nnx.State, stats: EngineStats, most: int | None) -> None:
    """Runs prefills until all requests in slots can begin, and `most` at most."""
    layout, calls = self._device.layout, 0
    while True:
      self._copy_prompts()
      if calls == most:
        return
      plan = ChunkPlan(self._places, self._ledger.in_line(), chunk=layout.chunk, width=layout.width, page=layout.page)
      if not plan:
        return
      self._device.prefill(params, plan.chunks)
      calls += 1
      stats.prefills += 1
      stats.prefill_tokens += plan.prompt_tokens
      stats.recomputed_tokens += plan.answer_tokens

  def _copy_prompts(self) -> None:
    """Copies complete prompts to the pages of other copies that answers in slots wait for."""
    places, sources, targets, first = self._places, [], [], None
    for has in places.placed.values():
      copy = places.copies[has.copy]
      if has.begun or copy.complete:
        continue
      first = first or furthest_copies(places)
      name, source = first[has.copy[1]]
      if source.complete:
        sources += places.on_all(name[0], source.pages)
        targets += places.on_all(has.shard, copy.pages)
        copy.filled = source.filled
    if sources:
      self._device.copy(sources, targets)

  def _begin(self, seed: int) -> None:
    """Lets requests draw whose keys and values are all in their pages."""
    places, ready = self._places, []
    for slot, request in self._ledger.beginning.items():
      has = places.placed[request]
      if places.copies[has.copy].complete and has.filled == request.drawn:
        ready.append((slot, request))
    if ready:
      self._device.begin(ready, seed)
      self._ledger.begin(request for _, request in ready)
