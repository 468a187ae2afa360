"""DAPO's dynamic sampling, streaming: fill a step with groups that have both right and wrong answers.

A group is judged when it is complete. One whose answers are all right or all wrong has no gradient and is replaced by
another prompt's; a step trains on the first N informative groups in prompt order (2503.14476, section 3.2).

Replacing is where a bias towards short answers creeps in. At any moment what has finished is shorter than what is still
running, so whoever keeps finished groups and throws away running ones trains on short answers: by about a tenth in the
mean, and hardly ever on one that reaches the cap. Correctness need not have anything to do with it. Hence the rule:
what was started is finished and judged, and whether it is trained on depends on its verdict and on its place in the
order of prompts, never on when it finished. No clock decides anything: verifiers may be as slow as they like.

Ways to admit prompts (`Admission`; N groups a step, p the informative share):

  drain   waves of (N - have) / p groups, p that of late, but of at most 2 N; all finish before the next wave; the
          informative ones too many, fewer than 2 N, are carried: they are trained on within two steps. Nearly on-policy
  exact   one replacement for each dropped group, never more than N groups open or accepted; nothing is carried.
          On-policy; slots idle while the last groups finish
  carry   all slots stay busy; groups finished and unfinished go on into the next step, under its parameters. A group is
          trained on at most `max_staleness` steps after its prompt was admitted; that is kept by admitting less, not by
          throwing away (`rollouts.carry`). Least idle, least waste, most stale
  filter  N groups, those that are not informative dropped and not replaced: a smaller, noisier step. What remains of
          the technique without refilling, for ablations
  batch   as DAPO's published script does it: `batch_factor` N (3 N) prompts, wait for all, filter, again until there
          are N, take the first N, throw the surplus away. On-policy and unbiased, since all have finished; wasteful

Deviations from the paper: it does not say what becomes of surplus; its script throws it away, which here only `batch`
does. Its script ends the run after 10 batches without enough groups; here `max_prompts` is the cap and `at_cap` says
what happens.

All prompts may come to be retired (`retire_after`). Nothing can be drawn then, which is treated as the cap is; under
`train_partial` the run ends with an error once there is nothing to train on either.
"""

import collections
import dataclasses
from typing import Any

from posttrain_jax.data.stream import PromptStream
from posttrain_jax.parallel.processes import refuse_several
from posttrain_jax.rollouts import admission
from posttrain_jax.rollouts import metrics as rollout_metrics
from posttrain_jax.rollouts.admission import Admission, Judged, Supply
from posttrain_jax.rollouts.carry import Line
from posttrain_jax.rollouts.dynamic_sampling import AtCap, DynamicSampling
from posttrain_jax.rollouts.group_json import group_from_json, group_to_json
from posttrain_jax.rollouts.multi_process import add_up
from posttrain_jax.rollouts.pass_rates import PassRates
from posttrain_jax.rollouts.verdicts import Verdict
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import Group, InputError, Judge


class SamplingCapReached(RuntimeError):
  """A step drew as many prompts as it may, or as there are, without finding enough informative groups."""


@dataclasses.dataclass(frozen=True)
class Collected:
  """What one step collected.

  Attributes:
    trained: the groups to train on, in prompt order; N of them, fewer at the cap and under `filter`.
    judged: every group whose fate this step decided with its verdict, in prompt order; carried ones come again when
      trained.
    at_cap: True if the cap on prompts, or the lack of any, ended the collection.
    metrics: `sampling/...`, lengths and truncation, as logged.
  """

  trained: list[Group]
  judged: list[Judged]
  at_cap: bool
  metrics: dict[str, float]


class Collector:
  """Collects groups for one step after another.

  Between steps it holds what a checkpoint must hold: the stream's position, the groups carried and the line of those
  under way, the informative share of late, and the prompts' pass rates.
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
    settings: DynamicSampling,
  ):
    """Wires engine, prompts and judge.

    Args:
      engine: with the current parameters loaded whenever `collect` is called, and idle.
      stream: where prompts come from.
      judge: fills in accuracy, rewards and validity; under `carry` it is called on another thread.
      rejudge: a model's judgement of groups that `judge` has judged; always called on the caller's thread.
      groups: N, groups a step trains on.
      group_size: G, answers a prompt.
      settings: whether and how to replace uninformative groups.

    Raises:
      InputError: a cap below N, group sizes that cannot be informative, or a way to admit prompts that looks at groups
        one by one where several processes draw them.
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
    self.line = Line(judge, rejudge, max_staleness=settings.max_staleness, delay=settings.verdict_delay)
    self.informative_of_late, self.judged_of_late = 0.0, 0.0
    self.pass_rates = PassRates(settings.retire_after)

  @property
  def informative_share(self) -> float:
    """Informative share of the groups judged of late (each step halves the weight of those before); 1 at the start."""
    if not self.judged_of_late:
      return 1.0
    return max(self.informative_of_late / self.judged_of_late, 1e-3)

  def collect(self) -> Collected:
    """Draws prompts, samples and judges until the step has its groups or the cap is reached.

    Raises:
      SamplingCapReached: the cap was reached and the setting is `error`, or no prompt is left.
    """
    self.engine.take_stats()
    settings = self.settings
    accepted, self.carried = [(group, Verdict.TRAINED) for group in self.carried], []
    cap = settings.max_prompts if settings.enabled else self.groups
    supply = Supply(self.engine, self.stream, self.judge, groups=self.groups, group_size=self.group_size, cap=cap)
    fresh = self._admit(supply, len(accepted))
    counted = [Verdict.TRAINED if outcome == Verdict.SURPLUS else outcome for _, outcome in fresh]
    if not settings.enabled:
      # Without replacement a group is trained on whatever its answers are; its verdict is only counted.
      fresh = [(group, Verdict.TRAINED) for group, _ in fresh]
    usable = accepted + [item for item in fresh if item[1] == Verdict.TRAINED]
    trained, kept = usable[: self.groups], usable[self.groups :]
    # A filter without refilling is content with what it finds.
    content = settings.enabled and settings.admission == Admission.FILTER and supply.drawn > 0
    at_cap = len(trained) < self.groups and not content
    if at_cap:
      self._heed_cap(len(trained), len(fresh))
      kept = trained if settings.at_cap == AtCap.STOP else []  # the run ends here; nothing found is thrown away
    self.carried = [group for group, _ in kept]
    self.informative_of_late = self.informative_of_late / 2 + counted.count(Verdict.TRAINED)
    self.judged_of_late = self.judged_of_late / 2 + len(counted)
    self.pass_rates.add((group, outcome) for (group, _), outcome in zip(fresh, counted))
    self.stream.retired = self.pass_rates.retired
    kept = {id(group) for group in self.carried}
    judged = [(group, Verdict.CARRIED if id(group) in kept else outcome) for group, outcome in fresh]
    trained = [group for group, _ in trained]
    metrics = rollout_metrics.describe(
      trained,
      judged,
      collections.Counter(counted),
      add_up(self.engine.take_stats()),
      version=self.engine.version,
      drawn=supply.drawn,
    )
    if settings.enabled and settings.admission == Admission.CARRY:
      metrics |= self.line.describe()
      metrics["sampling/carried"] += self.line.informative
    return Collected(trained=trained, judged=judged, at_cap=at_cap, metrics=metrics | self.pass_rates.describe())

  def _admit(self, supply: Supply, have: int) -> list[Judged]:
    if not self.settings.enabled:
      return supply.sample(self.groups)
    match self.settings.admission:
      case Admission.DRAIN:
        return admission.drain(supply, have, self.informative_share)
      case Admission.EXACT:
        return admission.exact(supply, have)
      case Admission.CARRY:
        return self.line.collect(supply, have)
      case Admission.FILTER:
        return admission.keep_what_is_informative(supply, have)
      case Admission.BATCH:
        return admission.batch(supply, have, self.settings.batch_factor)

  def _heed_cap(self, found: int, judged: int) -> None:
    """Raises where the step must not go on with the groups that it found."""
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

  def state(self) -> dict[str, Any]:
    """What a checkpoint must hold, as a JSON object."""
    return {
      "stream": self.stream.position,
      "carried": [group_to_json(group) for group in self.carried],
      "line": self.line.state(),
      "informative_of_late": self.informative_of_late,
      "judged_of_late": self.judged_of_late,
      "pass_rates": self.pass_rates.state(),
    }

  def restore(self, state: dict[str, Any]) -> None:
    """Goes back to a state."""
    self.stream.position = state["stream"]
    self.carried = [group_from_json(group) for group in state["carried"]]
    self.line.restore(state["line"])
    self.informative_of_late, self.judged_of_late = state["informative_of_late"], state["judged_of_late"]
    self.pass_rates.restore(state["pass_rates"])
    self.stream.retired = self.pass_rates.retired
