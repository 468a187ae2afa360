"""Gives out another run's stored rollouts, so that losses can be compared on identical data.

A run with `logging.groups_every = N` stores the groups that every N-th step trained on, bit for bit, in its rollouts/
(`step_NNNNNN.groups.safetensors.gz`). `--replay=DIR` trains on them without sampling: one stored step for
each step, in order.

A replay takes the stored prompts, tokens, sampler logprobs and rewards unchanged. So the stored run decided which
groups were dropped and how length was shaped, and these fields have no effect on a replay: `rewards`, `reward_model`,
`dynamic_sampling`, `overlong.penalty_buffer`, `overlong.filter=group`, and `prompts` (except for the width of its
longest prompt). Advantages and everything after them are the replay's own. The learner computes old logprobs, as
always: the further the policy is from the one that drew the answers, the more `objective.correction` has to correct,
and the larger `mismatch/` and `kl/k1_sampler` are. Versions of stored tokens count the other run's updates, so
staleness is not reported.

Only evaluations, and the greedy baseline of `advantage="remax"`, still draw answers.
"""

import collections
import gzip
import hashlib
import json
import pathlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from safetensors import SafetensorError

from posttrain_jax.data.prompts import file_digest
from posttrain_jax.local_path import local_path
from posttrain_jax.rollouts import group_arrays
from posttrain_jax.rollouts import metrics as rollout_metrics
from posttrain_jax.rollouts.collector import Collected
from posttrain_jax.rollouts.dynamic_sampling import Outcome
from posttrain_jax.runs import rollout_files
from posttrain_jax.runs.rollout_files import GROUPS_SUFFIX
from posttrain_jax.runs.workdir import read_json
from posttrain_jax.sampling.requests import EngineStats
from posttrain_jax.types import Group, InputError

# What gzip, safetensors, and what reads their content raise.
_BROKEN = (OSError, EOFError, zlib.error, SafetensorError, LookupError, ValueError, TypeError, StopIteration)


class Replay:
  """Gives out a run's stored steps one after another, like a `collector.Collector`.

  Attributes:
    files: one file for each stored step, in order.
    position: number of steps given out so far; a checkpoint holds nothing else.
    groups: N, groups a step trains on; a step has fewer if the stored step had fewer.
    group_size: G, answers a prompt.
  """

  def __init__(
    self,
    path: str,
    *,
    steps: int,
    groups: int,
    group_size: int,
    temperature: float,
    prompt_width: int,
    answer_width: int,
    tokenizer_digest: str,
  ):
    """Finds the stored steps, and checks those that the run will need.

    Args:
      path: the workdir of the run that stored its groups.
      steps: how many stored steps are needed.
      groups: N, groups that a step trains on at most.
      group_size: G, answers of each.
      temperature: at which the learner takes logprobs; the stored answers must have been drawn at it.
      prompt_width: the longest prompt that the learner has room for, in tokens.
      answer_width: the longest answer, likewise.
      tokenizer_digest: of the policy that is trained.

    Raises:
      InputError: if stored groups are missing, too few or unreadable, or were made with another tokeniser, temperature
        or size.
    """
    where, path = f"--replay={path}", local_path(path, "--replay")
    if not path.is_dir():
      raise InputError(f"{where}: no such directory, expected the workdir of a run with stored groups")
    same = {"groups": groups, "group_size": group_size, "sampling.temperature": temperature}
    _check_source(read_json(path), same, tokenizer_digest, where)
    stored = rollout_files.find(path / "rollouts", GROUPS_SUFFIX)
    self._steps, self.files = [step for step, _ in stored], [file for _, file in stored]
    if not self.files:
      raise InputError(f"{where}: found no rollouts/*{GROUPS_SUFFIX}, expected a run with logging.groups_every > 0")
    if steps > len(self.files):
      raise InputError(f"{where}: holds the groups of {len(self.files)} steps, steps is {steps}")
    self.groups, self.group_size, self.position = groups, group_size, 0
    for file in self.files[:steps]:
      stored = _read(file)
      if len(stored) > self.groups:
        raise InputError(f"{file}: found {len(stored)} groups, expected at most rollout.groups = {self.groups}")
      for number, group in enumerate(stored, 1):
        _check_sizes(group, f"{file}, group {number}", self.group_size, prompt_width, answer_width)

  def digest(self) -> str:
    """Computes the sha256 over all stored steps, also those that the run does not need."""
    return hashlib.sha256("".join(map(file_digest, self.files)).encode()).hexdigest()

  def collect(self) -> Collected:
    """Reads the groups of the next stored step; all are trained on."""
    step, groups = self._steps[self.position], _read(self.files[self.position])
    self.position += 1
    judged = [(group, Outcome.TRAINED) for group in groups]
    metrics = rollout_metrics.describe(groups, judged, collections.Counter(), EngineStats(), version=0)
    # The other metrics under sampling/ describe sampling, which a replay does not do.
    kept = {"sampling/groups_trained", "sampling/tokens_generated"}
    metrics = {name: value for name, value in metrics.items() if not name.startswith("sampling/") or name in kept}
    metrics.pop("length/trained_minus_generated", None)
    return Collected(trained=groups, judged=judged, at_cap=False, metrics={"replay/step": step, **metrics})

  def state(self) -> dict[str, Any]:
    """Returns what a checkpoint must hold, as a JSON object."""
    return {"position": self.position}

  def saved_files(self) -> dict[str, Callable[[], bytes]]:
    """Returns no files: the groups are the other run's."""
    return {}

  def restore(self, state: dict[str, Any], path: pathlib.Path) -> None:
    """Goes back to a state."""
    del path
    self.position = state["position"]


def _check_source(source: dict[str, Any], same: Mapping[str, Any], tokenizer_digest: str, where: str) -> None:
  """Refuses a source whose `rollout` differs in what the stored tokens and logprobs depend on."""
  for name, now in same.items():
    before = source.get("rollout", {})
    for part in name.split("."):
      before = before.get(part, {})
    if before != now:
      raise InputError(f"rollout.{name}: {now}, expected {json.dumps(before)} as in {where}")
  if source.get("digests", {}).get("tokenizer") != tokenizer_digest:
    raise InputError(f"{where}: its run had another tokeniser than the policy, expected the same")


def _check_sizes(group: Group, where: str, group_size: int, prompt_width: int, answer_width: int) -> None:
  if len(group.answers) != group_size:
    raise InputError(f"{where}: found {len(group.answers)} answers, expected rollout.group_size = {group_size}")
  if len(group.prompt.tokens) > prompt_width:
    raise InputError(
      f"{where}: found a prompt of {len(group.prompt.tokens)} tokens, expected at most {prompt_width}, the longest in "
      "prompts"
    )
  if group.lengths.max() > answer_width:
    raise InputError(
      f"{where}: found an answer of {group.lengths.max()} tokens, expected at most rollout.max_new_tokens = "
      f"{answer_width}"
    )


def _read(file: pathlib.Path) -> list[Group]:
  """Reads the groups of a stored step; raises InputError if the file is broken."""
  try:
    return group_arrays.unpack(gzip.decompress(file.read_bytes()))
  except _BROKEN as error:
    raise InputError(f"{file}: cannot be read ({type(error).__name__}: {error}), expected stored groups") from error
