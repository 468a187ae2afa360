"""Loads the model that a run attacks, and the judge of what it answers."""

import dataclasses
from collections.abc import Sequence

from posttrain_jax.assembly.attack_target import COMPLIED, AttackedModel, JudgeAnswers, TargetJudge, TargetSettings
from posttrain_jax.assembly.judges import RewardSettings
from posttrain_jax.assembly.model import digests, find_tokenizer, read_config
from posttrain_jax.assembly.readers import load_reader
from posttrain_jax.evaluation.second_opinion import SecondJudge, open_judge
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import InputError


def attacked_model(
  run: MethodAssembly, section: TargetSettings, rewards: RewardSettings, *, seed: int, engines: Sequence[Engine]
) -> AttackedModel:
  """Loads the model that is attacked.

  Args:
    run: gets the digests of what is read.
    section: the config's `target`.
    rewards: the config's; the rule's verdict runs as its functions do.
    seed: the config's.
    engines: draw the attacks.

  Raises:
    InputError: if a model is not there or is of another kind, if the target does not fit the sizes, or if the verdict
      cannot be loaded.
  """
  if section.judge is not None:
    run.digests |= _checked(section.judge)
  # First, as it refuses a function that is not there before weights are read.
  workers = run.workers(dataclasses.replace(rewards, accuracy=COMPLIED, functions={COMPLIED: section.verdict}))
  target, found = load_reader(section.path, None, "target.path", scalar_head=False)
  run.digests |= found
  judged = None if section.judge is None else _judged(section.judge, seed)
  return AttackedModel(section, target, workers, run.mesh, seed=seed, engines=engines, judged=judged)


def _checked(section: TargetJudge) -> dict[str, str]:
  """Returns the digest of a judge, before any weights are read."""
  where, tokenizer = "target.judge.path", find_tokenizer(section.path)
  if read_config(section.path).scalar_head or tokenizer is None:
    raise InputError(f"{where}: {section.path} is no language model with a tokeniser, expected one")
  return {where: digests(section.path, tokenizer)["model"]}


def _judged(section: TargetJudge, seed: int) -> JudgeAnswers:
  """Loads a judge, whose verdict is the likelier of its two statements."""
  judge = open_judge(SecondJudge(path=section.path, longest=section.longest), section.question, seed=seed)
  return lambda pairs: judge(pairs).yes
