"""Gives out another run's stored rollouts, so that losses can be compared on identical data.

A run with `logging.groups_every = N` stores the groups that every N-th step trained on, bit for bit, in its rollouts/
(`step_NNNNNN.groups.jsonl.gz`, one group a line). `--replay=DIR` trains on them without sampling: one stored step for
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
from typing import Any

import ml_collections

from posttrain_jax.data.prompts import file_digest
from posttrain_jax.rollouts import metrics as rollout_metrics
from posttrain_jax.rollouts.collector import Collected
from posttrain_jax.rollouts.dynamic_sampling import Outcome
from posttrain_jax.rollouts.group_json import group_from_json
from posttrain_jax.runs.journal import GROUPS_SUFFIX
from posttrain_jax.runs.workdir import read_json
from posttrain_jax.sampling.requests import EngineStats
from posttrain_jax.types import Group, InputError

# Stored tokens and logprobs depend on these fields, so both runs must have the same values.
_SAME_FIELDS = ("rollout.groups", "rollout.group_size", "rollout.sampling.temperature")
_BROKEN = (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError)


class Replay:
  """Gives out a run's stored steps one after another, like a `collector.Collector`.

  Attributes:
    files: one file for each stored step, in order.
    position: number of steps given out so far; a checkpoint holds nothing else.
    groups: N, groups a step trains on; a step has fewer if the stored step had fewer.
    group_size: G, answers a prompt.
  """

  def __init__(self, config: ml_collections.ConfigDict, tokenizer_digest: str, *, prompt_width: int):
    """Finds the stored steps, and checks those that the run will need.

    Args:
      config: `replay`, the workdir of the run that stored its groups; `steps`, `rollout`.
      tokenizer_digest: sha256 of the trained policy's tokeniser.
      prompt_width: the longest prompt that the learner has room for, in tokens.

    Raises:
      InputError: if stored groups are missing, too few or unreadable, or were made with another tokeniser, temperature
        or size.
    """
    where = f"--replay={config.replay}"
    path, rollout = pathlib.Path(config.replay), config.rollout
    if not path.is_dir():
      raise InputError(f"{where}: no such directory, expected the workdir of a run with stored groups")
    _check_source(read_json(path), config, tokenizer_digest, where)
    self.files = sorted((path / "rollouts").glob(f"step_*{GROUPS_SUFFIX}"))
    if not self.files:
      raise InputError(f"{where}: found no rollouts/*{GROUPS_SUFFIX}, expected a run with logging.groups_every > 0")
    if config.steps > len(self.files):
      raise InputError(f"{where}: holds the groups of {len(self.files)} steps, steps is {config.steps}")
    self.groups, self.group_size, self.position = rollout.groups, rollout.group_size, 0
    for file in self.files[: config.steps]:
      groups = _read(file)
      if len(groups) > self.groups:
        raise InputError(f"{file}: found {len(groups)} groups, expected at most rollout.groups = {self.groups}")
      for number, group in enumerate(groups, 1):
        _check_sizes(group, f"{file}:{number}", self.group_size, prompt_width, rollout.max_new_tokens)

  def digest(self) -> str:
    """Computes the sha256 over all stored steps, also those that the run does not need."""
    return hashlib.sha256("".join(map(file_digest, self.files)).encode()).hexdigest()

  def collect(self) -> Collected:
    """Reads the groups of the next stored step; all are trained on."""
    file = self.files[self.position]
    groups, self.position = _read(file), self.position + 1
    judged = [(group, Outcome.TRAINED) for group in groups]
    metrics = rollout_metrics.describe(groups, judged, collections.Counter(), EngineStats(), version=0)
    # The other metrics under sampling/ describe sampling, which a replay does not do.
    kept = {"sampling/groups_trained", "sampling/tokens_generated"}
    metrics = {name: value for name, value in metrics.items() if not name.startswith("sampling/") or name in kept}
    metrics.pop("length/trained_minus_generated", None)
    return Collected(trained=groups, judged=judged, at_cap=False, metrics={"replay/step": _step(file), **metrics})

  def state(self) -> dict[str, Any]:
    """Returns what a checkpoint must hold, as a JSON object."""
    return {"position": self.position}

  def restore(self, state: dict[str, Any]) -> None:
    """Goes back to a state."""
    self.position = state["position"]


def _check_source(source: dict[str, Any], config: ml_collections.ConfigDict, tokenizer_digest: str, where: str) -> None:
  for name in _SAME_FIELDS:
    before, now = source, config
    for part in name.split("."):
      before, now = before.get(part, {}), now[part]
    if before != now:
      raise InputError(f"{name}: {now}, expected {json.dumps(before)} as in {where}")
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
  groups = []
  try:
    with gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines:
      for line in lines:
        groups.append(group_from_json(json.loads(line)))
  except _BROKEN as error:
    where = f"{file}:{len(groups) + 1}"
    raise InputError(f"{where}: cannot be read ({type(error).__name__}: {error}), expected a stored group") from error
  return groups


def _step(file: pathlib.Path) -> int:
  return int(file.name.removeprefix("step_").removesuffix(GROUPS_SUFFIX))
