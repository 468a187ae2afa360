"""Plans an ablation: the config of each row and seed, and the runs needed before.

DIR/seedN/NAME is the workdir of a run, DIR/seedN/NAME.config.json its config. Rows of one seed start from the same
warm-up, DIR/seedN/warmup (one a task), so they differ in nothing but what the row changes.
"""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence

import ml_collections

from posttrain_jax.pipelines.collect import DEMONSTRATIONS
from posttrain_jax.runs.settings import convert
from posttrain_jax.studies.ablation_settings import Method
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Job:
  """Describes one program to run.

  Attributes:
    name: "seed0/naive".
    program: of `experiments`.
    config: what it runs with.
    path: its workdir.
    needs: names of the jobs that it starts from.
  """

  name: str
  program: str
  config: ml_collections.ConfigDict
  path: pathlib.Path
  needs: tuple[str, ...] = ()


def chosen_rows(study: ml_collections.ConfigDict, text: str) -> list[str]:
  """Returns the rows that a text names, in the order of the groups.

  The text lists rows, groups of `groups`, or "all".
  """
  known = list(dict.fromkeys(row for group in study.groups.values() for row in group))
  known = list(dict.fromkeys([*study.groups.main, *known]))
  found: list[str] = []
  for name in filter(None, text.split(",")):
    if name not in (*study.groups, *study.rows, "all"):
      raise InputError(f"--rows={text}: no row or group {name!r}, expected {', '.join([*study.groups, 'all', *known])}")
    found += known if name == "all" else study.groups.get(name, [name])
  if not found:
    raise InputError("--rows: empty, expected names of rows or groups")
  return sorted(set(found), key=known.index)


def chosen_seeds(text: str) -> list[int]:
  """Parses seeds such as "0-9" or "0,2,5-7"."""
  found: list[int] = []
  for part in text.split(","):
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
    if not match or (match[2] and int(match[2]) < int(match[1])):
      raise InputError(f"--seeds={text}: {part!r}, expected a seed or a range such as 0-9")
    found += range(int(match[1]), int(match[2] or match[1]) + 1)
  return sorted(set(found))


def task_config(study: ml_collections.ConfigDict, task: str) -> ml_collections.ConfigDict:
  """Returns the config of a task's naive row."""
  if task not in study.tasks:
    raise InputError(f"tasks: no {task!r}, expected one of {', '.join(study.tasks)}")
  return changed(study.base, study.tasks[task], f"tasks.{task}")


def changed(
  config: ml_collections.ConfigDict, change: ml_collections.ConfigDict, where: str
) -> ml_collections.ConfigDict:
  """Returns a copy with some fields changed.

  Raises:
    InputError: if one of them is no field.
  """
  result = config.copy_and_resolve_references().unlock()

  def check(known: Mapping, given: Mapping, path: str) -> None:
    for name, value in given.items():
      if name not in known:
        raise InputError(f"{path}.{name}: there is no such field, expected one of {', '.join(known)}")
      if isinstance(value, ml_collections.ConfigDict):
        check(known[name], value, f"{path}.{name}")

  check(result, change, where)
  result.update(change)
  return result


def plan(
  study: ml_collections.ConfigDict, directory: pathlib.Path, rows: Sequence[str], seeds: Sequence[int]
) -> list[Job]:
  """Returns all jobs in the order of their starts: seed by seed, the warm-up first.

  Raises:
    InputError: if a row or a task changes what is no field, or has an unknown method.
  """
  jobs: dict[str, Job] = {}

  def add(seed: int, name: str, program: str, config: ml_collections.ConfigDict, *needs: Job) -> Job:
    full = f"seed{seed}/{name}"
    config.seed = seed
    jobs.setdefault(full, Job(full, program, config, directory / full, tuple(job.name for job in needs)))
    return jobs[full]

  for seed in seeds:
    for row in rows:
      section = study.rows[row]
      base, where = task_config(study, section.task), f"rows.{row}.change"
      suffix = "" if section.task == "main" else f"_{section.task}"
      warmup = _supervised(base)
      warmup.eval.every = 0
      start = add(seed, f"warmup{suffix}", "sft", warmup)
      method = convert(Method, section.method, f"rows.{row}.method")
      if method == Method.DAPO:
        config = changed(base, section.change, where)
        config.warmup.steps = config.warmup.epochs = 0
        config.model.path = str(start.path)
        add(seed, row, "dapo", config, start)
        continue
      config = changed(_supervised(base), section.change, where)
      config.model.path, before = str(start.path), start
      if method == Method.BEST_OF_N:
        collection = section.collect.copy_and_resolve_references().unlock()
        collection.model.path = str(start.path)
        before = add(seed, f"{row}_answers", "collect", collection, start)
        config.demonstrations.path = str(before.path / DEMONSTRATIONS)
      add(seed, row, "sft", config, before)
  return list(jobs.values())


def _supervised(base: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Returns the config of a supervised run like a DAPO run's warm-up."""
  config = base.warmup.copy_and_resolve_references().unlock()
  for name in ("model", "mesh", "rewards", "eval"):
    config[name] = base[name].copy_and_resolve_references().unlock()
  del config.eval.kl  # which only RL has
  config.memory = {name: kept for name, kept in base.memory.items() if name == "optimizer"}
  config.seed = base.seed
  config.eval.reward_model = ""
  config.logging.report = False
  return config
