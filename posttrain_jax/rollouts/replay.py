"""Trains on the rollouts that another run stored, without sampling: two losses on identical data.

A run with `logging.groups_every = N` keeps the groups that every N-th step trained on, to the bit, in its rollouts/
(`step_NNNNNN.groups.jsonl.gz`, a group a line). `--replay=DIR` reads them, one stored step a step, in order.

What the stored groups hold is taken as it is: prompts, tokens, the sampler's logprobs and rewards, hence also which
groups were dropped and how length was shaped. `prompts` (but for the width of its longest one), `rewards`,
`reward_model`, `dynamic_sampling`, `overlong.penalty_buffer` and `overlong.filter=group` therefore say nothing about a
replay; from the advantages on everything is the replay's own. Old logprobs are the learner's, as always: the further
the policy is from the one that drew the answers, the more `objective.correction` has to carry and the larger
`mismatch/` and `kl/k1_sampler` are. The versions of stored tokens count another run's updates, so no staleness in
versions is reported.

Nothing is drawn but what an evaluation and the greedy baseline of `advantage="remax"` draw.
"""

import collections
import gzip
import hashlib
import json
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

from posttrain_jax.data.prompts import file_digest
from posttrain_jax.rollouts import metrics as rollout_metrics
from posttrain_jax.rollouts.collector import Collected, Verdict
from posttrain_jax.rollouts.group_json import group_from_json
from posttrain_jax.runs.journal import GROUPS_SUFFIX
from posttrain_jax.runs.workdir import read_json
from posttrain_jax.sampling.requests import EngineStats
from posttrain_jax.types import Group, InputError

_BROKEN = (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError)


class Replay:
  """Gives out a run's stored steps one after another, in the place of a `dynamic_sampling.Collector`.

  Attributes:
    files: one a stored step, in order.
    position: how many were given out, all that a checkpoint has to hold.
    groups: N, groups a step trains on; fewer where the stored step had fewer.
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
    """Finds the stored steps and reads those that the run will need, to see whether they fit.

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
      InputError: no stored groups, too few, of another tokeniser, temperature or size, or what cannot be read.
    """
    where, path = f"--replay={path}", pathlib.Path(path)
    if not path.is_dir():
      raise InputError(f"{where}: no such directory, expected the workdir of a run with stored groups")
    same = {"groups": groups, "group_size": group_size, "sampling.temperature": temperature}
    _check_source(read_json(path), same, tokenizer_digest, where)
    self.files = sorted((path / "rollouts").glob(f"step_*{GROUPS_SUFFIX}"))
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
        _check_sizes(group, f"{file}:{number}", self.group_size, prompt_width, answer_width)

  def digest(self) -> str:
    """sha256 over all stored steps, whether or not the run needs them."""
    return hashlib.sha256("".join(map(file_digest, self.files)).encode()).hexdigest()

  def collect(self) -> Collected:
    """The groups of the next stored step, all of them to be trained on."""
    file = self.files[self.position]
    groups, self.position = _read(file), self.position + 1
    judged = [(group, Verdict.TRAINED) for group in groups]
    metrics = rollout_metrics.describe(groups, judged, collections.Counter(), EngineStats(), version=0)
    kept = {"sampling/groups_trained", "sampling/tokens_generated"}  # the others are about sampling, and there is none
    metrics = {name: value for name, value in metrics.items() if not name.startswith("sampling/") or name in kept}
    metrics.pop("length/trained_minus_generated", None)
    return Collected(trained=groups, judged=judged, at_cap=False, metrics={"replay/step": _step(file), **metrics})

  def state(self) -> dict[str, Any]:
    """What a checkpoint must hold, as a JSON object."""
    return {"position": self.position}

  def restore(self, state: dict[str, Any]) -> None:
    """Goes back to a state."""
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
  """The groups of a stored step; InputError where the file is broken."""
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
