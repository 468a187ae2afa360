"""Fills a step with groups: draws and judges them, and drops the uninformative ones.

`dynamic_sampling` explains the idea and the ways to admit prompts.
"""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from absl import logging

from posttrain_jax.data.stream import PromptStream
from posttrain_jax.parallel.processes import refuse_several
from posttrain_jax.rollouts import admission
from posttrain_jax.rollouts import metrics as rollout_metrics
from posttrain_jax.rollouts.admission import Supply
from posttrain_jax.rollouts.carry import Line
from posttrain_jax.rollouts.dynamic_sampling import (
  Admission,
  AtCap,
  DynamicSamplingSettings,
  Informative,
  Judged,
  Outcome,
  Verdict,
  drop_uninformative_groups,
  has_spread,
)
from posttrain_jax.rollouts.group_arrays import pack, unpack
from posttrain_jax.rollouts.multi_process import add_up
from posttrain_jax.rollouts.pass_rates import PassRates
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import Group, InputError, Judge, RunFailed

_GROUPS_FILE = "groups.safetensors"


class SamplingCapReached(RunFailed):
  """Reports that a step drew all prompts it may without finding enough groups."""


@dataclasses.dataclass(frozen=True)
class Collected:
  """Holds what one step collected.

  Attributes:
    trained: the groups to train on, in prompt order: N groups, fewer at the cap and under `filter`.
    judged: the new groups that this step decided on, with their outcomes, in prompt order. A carried group is listed
      by the step that carries it, not by the one that trains on it.
    at_cap: True if the cap on prompts, or a lack of prompts, ended the collection.
    metrics: `sampling/...`, accuracy, rewards, lengths and truncation, as logged.
  """

  trained: list[Group]
  judged: list[tuple[Group, Outcome]]
  at_cap: bool
  metrics: dict[str, float]


@dataclasses.dataclass(frozen=True)
class _Selection:
  """Holds the groups that a step may train on.

  Attributes:
    trained: the first N, in prompt order.
    rest: those after the first N.
    at_cap: True if there are fewer than N and the step should have found more.
  """

  trained: list[Group]
  rest: list[Group]
  at_cap: bool


class Collector:
  """Collects groups for one step after another.

  Between steps it holds what a checkpoint must hold: the stream's position, the carried groups, the line of groups
  under way, the informative share of recent steps, and the prompts' pass rates.
  """

  def __init__(
    self,
    engine: Engine,
    stream: PromptStream,
    judge: Judge,
    rejudge: Judge | None = None,
    *,
    groups: int,
    group_size: int,
    settings: DynamicSamplingSettings,
  ):
    """Wires engine, prompts and judge.

    Args:
      engine: idle, and with the current parameters loaded, whenever `collect` is called.
      stream: gives the prompts.
      judge: fills in accuracy, rewards and validity; under `carry` it is called on another thread.
      rejudge: a model's judgement of groups that `judge` has judged; always called on the caller's thread.
      groups: N, groups a step trains on.
      group_size: G, answers a prompt.
      settings: the config's `dynamic_sampling`.

    Raises:
      InputError: if the cap on prompts is below N, if groups are too small to be informative, or if several processes
        run and the admission looks at groups one by one.
    """
    if settings.enabled and settings.admission in (Admission.EXACT, Admission.CARRY):
      refuse_several(f"dynamic_sampling.admission={settings.admission}")
    if settings.enabled and group_size < 2:
      raise InputError(f"rollout.group_size: {group_size}, expected at least 2 for dynamic sampling")
    if settings.enabled and settings.max_prompts < groups:
      raise InputError(
        f"dynamic_sampling.max_prompts: {settings.max_prompts}, expected at least {groups} (groups a step)"
      )
    self.engine, self.stream, self.settings = engine, stream, settings
    self.judge = judge if rejudge is None else lambda groups: rejudge(judge(groups))
    self.groups, self.group_size = groups, group_size
    self.carried: list[Group] = []
    self.line = Line(
      judge,
      rejudge,
      max_staleness=settings.max_staleness,
      delay=settings.verdict_delay,
      verdict=settings.verdict,
    )
    self.recent_informative, self.recent_judged = 0.0, 0.0
    self.pass_rates = PassRates(settings.retire_after, settings.right_above)

  @property
  def informative_share(self) -> float:
    """Computes the informative share of recently judged groups; 1 at the start.

    Each step halves the weight of those before it.
    """
    if not self.recent_judged:
      return 1.0
    return max(self.recent_informative / self.recent_judged, 1e-3)

  def collect(self) -> Collected:
    """Draws and judges groups until the step has N or reaches its cap.

    Raises:
      SamplingCapReached: if the cap is reached and `at_cap` is `error`, or if no prompt and no group is left.
    """
    self.engine.take_stats()  # discards counts from other uses of the engine since the last step
    cap = self.settings.max_prompts if self._admission else self.groups
    supply = Supply(
      self.engine,
      self.stream,
      self.judge,
      groups=self.groups,
      group_size=self.group_size,
      cap=cap,
      verdict=self.settings.verdict,
    )
    fresh = self._admit(supply, len(self.carried))
    selected = self._select(fresh, supply.drawn)
    if selected.at_cap:
      self._check_cap(found=len(selected.trained), judged=len(fresh))
    self._carry(fresh, selected)
    judged = self._outcomes(fresh, selected)
    self._warn_of_graded(fresh)
    metrics = self._count(fresh, selected, judged, supply.drawn)
    return Collected(trained=selected.trained, judged=judged, at_cap=selected.at_cap, metrics=metrics)

  @property
  def _admission(self) -> Admission | None:
    """Names the way to admit prompts; None without dynamic sampling."""
    return self.settings.admission if self.settings.enabled else None

  def _admit(self, supply: Supply, have: int) -> list[Judged]:
    """Draws and judges the step's new groups, in prompt order."""
    match self._admission:
      case None:
        return supply.sample(self.groups)
      case Admission.DRAIN:
        return admission.drain(supply, have, self.informative_share)
      case Admission.EXACT:
        return admission.exact(supply, have)
      case Admission.CARRY:
        return self.line.collect(supply, have)
      case Admission.FILTER:
        return admission.filter_without_refill(supply, have)
      case Admission.BATCH:
        return admission.batch(supply, have, self.settings.batch_factor)

  def _select(self, fresh: Sequence[Judged], drawn: int) -> _Selection:
    """Selects the first N groups, those carried from earlier steps before the new ones.

    With dynamic sampling, uninformative groups are dropped first; without it, all groups are taken.
    """
    new = drop_uninformative_groups(fresh) if self._admission else [group for group, _ in fresh]
    usable = self.carried + new
    trained, rest = usable[: self.groups], usable[self.groups :]
    # A filter without refilling takes what it finds, however few.
    content = self._admission == Admission.FILTER and drawn > 0
    return _Selection(trained, rest, at_cap=len(trained) < self.groups and not content)

  def _check_cap(self, *, found: int, judged: int) -> None:
    """Raises SamplingCapReached where the step must not go on with the groups that it found."""
    said = f"{judged} prompts gave {found} informative groups of {self.groups}"
    settings = self.settings
    if self.stream.exhausted and (
      settings.at_cap == AtCap.ERROR or (settings.at_cap == AtCap.TRAIN_PARTIAL and not found)
    ):
      raise SamplingCapReached(
        f"{said} and no prompt is left: all were solved {settings.retire_after} times in a row "
        "(dynamic_sampling.retire_after); dynamic_sampling.at_cap=stop ends the run there"
      )
    if settings.at_cap == AtCap.ERROR:
      raise SamplingCapReached(
        f"{said}; dynamic_sampling.max_prompts is {settings.max_prompts}, dynamic_sampling.at_cap may be train_partial "
        "or stop"
      )

  def _carry(self, fresh: Sequence[Judged], selected: _Selection) -> None:
    """Keeps what the next step needs: the carried groups, the informative share, the pass rates."""
    if selected.at_cap and self.settings.at_cap == AtCap.STOP:
      self.carried = selected.trained  # the run ends before training on them: kept, not thrown away
    elif self._admission == Admission.BATCH:
      self.carried = []
    else:
      self.carried = selected.rest
    self.recent_informative = self.recent_informative / 2 + len(drop_uninformative_groups(fresh))
    self.recent_judged = self.recent_judged / 2 + len(fresh)
    self.pass_rates.add(fresh)
    self.stream.retired = self.pass_rates.retired

  def _warn_of_graded(self, fresh: Sequence[Judged]) -> None:
    """Warns, once a minute, that groups with differing accuracies are dropped.

    They are dropped because all their answers are right, or all wrong.
    """
    if self._admission is None or self.settings.informative != Informative.MIXED:
      return
    graded = [group for group, verdict in fresh if verdict in (Verdict.ALL_RIGHT, Verdict.ALL_WRONG)]
    graded = [group for group in graded if has_spread(group)]
    if graded:
      shown = ", ".join(f"{accuracy:g}" for accuracy in graded[0].accuracy[graded[0].valid][:4])
      logging.log_every_n_seconds(
        logging.WARNING,
        "dynamic sampling dropped %d of %d groups whose accuracies differ (%s) but are all above or all at most "
        "dynamic_sampling.right_above=%g; dynamic_sampling.informative=spread keeps them",
        60,
        len(graded),
        len(fresh),
        shown,
        self.settings.right_above,
      )

  def _outcomes(self, fresh: Sequence[Judged], selected: _Selection) -> list[tuple[Group, Outcome]]:
    """Lists the new groups with what the step did with each."""
    carried, trained = ({id(group) for group in groups} for groups in (self.carried, selected.trained))

    def outcome(group: Group, verdict: Verdict) -> Outcome:
      if id(group) in carried:
        return Outcome.CARRIED
      if id(group) in trained:
        return Outcome.TRAINED
      return Outcome.SURPLUS if verdict == Verdict.INFORMATIVE else Outcome(verdict)

    return [(group, outcome(group, verdict)) for group, verdict in fresh]

  def _count(
    self,
    fresh: Sequence[Judged],
    selected: _Selection,
    judged: Sequence[tuple[Group, Outcome]],
    drawn: int,
  ) -> dict[str, float]:
    """Counts what was drawn, dropped, carried and trained on."""
    metrics = rollout_metrics.describe(
      selected.trained,
      judged,
      collections.Counter(verdict for _, verdict in fresh),
      add_up(self.engine.take_stats()),
      version=self.engine.version,
      drawn=drawn,
    )
    if self._admission == Admission.CARRY:
      metrics |= self.line.describe()
      metrics["sampling/carried"] += self.line.informative
    return metrics | self.pass_rates.describe()

  def state(self) -> dict[str, Any]:
    """Returns what a checkpoint must hold besides `saved_files`, as a JSON object."""
    return {
      "stream": self.stream.position,
      "carried": len(self.carried),
      "line": self.line.state(),
      "recent_informative": self.recent_informative,
      "recent_judged": self.recent_judged,
      "pass_rates": self.pass_rates.state(),
    }

  def saved_files(self) -> dict[str, Callable[[], bytes]]:
    """Returns the files that a checkpoint must hold, by name.

    They have the groups that were carried or are in line.

    Groups never change, so their bytes may be made later, on another thread.
    """
    return {_GROUPS_FILE: functools.partial(pack, [*self.carried, *self.line.groups()])}

  def restore(self, state: dict[str, Any], path: pathlib.Path) -> None:
    """Goes back to a state, with the files of the checkpoint at `path`.

    Raises:
      InputError: if another version of this code made the state.
    """
    missing = sorted(self.state().keys() - state.keys())
    if missing:
      raise InputError(
        f"checkpoint: the collector's state has no {', '.join(missing)}; another version of posttrain_jax wrote it, "
        "expected this one; start in a new workdir, from that one by model.path"
      )
    groups = unpack((path / _GROUPS_FILE).read_bytes())
    self.stream.position = state["stream"]
    self.carried = groups[: state["carried"]]
    self.line.restore(state["line"], groups[state["carried"] :])
    self.recent_informative, self.recent_judged = state["recent_informative"], state["recent_judged"]
    self.pass_rates.restore(state["pass_rates"])
    self.stream.retired = self.pass_rates.retired
