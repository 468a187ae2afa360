"""Lists the kinds of stages: one for each pipeline, and what is needed between them.

A function of one's own becomes a stage by `function`.
"""

import inspect
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax.pipelines import (
  assistant_base,
  collect,
  dpo,
  generative_reward,
  grpo,
  offline,
  ppo,
  reward_model,
  sft,
)
from posttrain_jax.pipelines.collect_settings import DemonstrationSource, EditedCollection, SampledCollection
from posttrain_jax.pipelines.dpo import DPOSettings
from posttrain_jax.pipelines.generative_reward import GenerativeRewardSettings
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.pipelines.online_dpo_parts import OnlineDPOSettings
from posttrain_jax.pipelines.ppo_settings import PPOSettings
from posttrain_jax.pipelines.reward_model import RewardModelSettings
from posttrain_jax.pipelines.sft import SFTSettings
from posttrain_jax.recipes import (
  alignment,
  attacks,
  average,
  bias_probes,
  choice,
  comparison,
  corpus_stages,
  curves,
  evaluation,
  forecasts,
  gains,
  gate,
  general_data,
  joining,
  judged_answers,
  picking,
  preferences,
  release,
  tradeoff,
)
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.recipes.recipe import Effort, Runner
from posttrain_jax.runs.journal import METRICS_FILE
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError


def _training(
  name: str,
  train: Callable[[ConfigDict, str], None],
  record: Callable[[ConfigDict], type],
  forecast: Callable[[ConfigDict, Forecast], Effort],
  *files: str,
) -> Runner:
  """Makes the runner of a pipeline that trains; `record` chooses the record that its config fills."""

  def run(config: ConfigDict, folder: pathlib.Path) -> None:
    train(config, str(folder))

  def check(config: ConfigDict) -> None:
    settings = parse(record(config), config)
    if isinstance(settings, offline.OfflineSettings):
      offline.check_length(settings)

  return Runner(name, run, check, forecast, has_model=True, files=files)


def _between(
  name: str,
  run: Callable[[ConfigDict, pathlib.Path], Mapping[str, Any] | None],
  check: Callable[[ConfigDict], Any],
  forecast: Callable[[ConfigDict, Forecast], Effort],
  *files: str,
) -> Runner:
  """Makes the runner of a stage without a model, which starts again in an empty folder."""
  return Runner(name, run, check, forecast, has_model=False, files=files, resumes=False)


def _build_base(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, float]:
  return assistant_base.build(config, str(folder))


def _collect(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, int]:
  return collect.collect(config, str(folder))


def _check_collection(config: ConfigDict) -> None:
  parse(EditedCollection if config.get("source") == DemonstrationSource.EDITED else SampledCollection, config)


def _dpo_record(config: ConfigDict) -> type:
  return OnlineDPOSettings if "online" in config else DPOSettings


def _attacker_record(config: ConfigDict) -> type:
  if config.get("target", None) is None:
    raise InputError("target: absent, expected the section of the model that is attacked")
  return GRPOSettings


# The assistant world's base model, which is made once and kept for other recipes.
ASSISTANT_BASE = Runner("assistant_base", _build_base, assistant_base.check, forecasts.supervised, has_model=True)
# Training shards from raw text, and a model pretrained on them.
PREPARE = Runner(
  "prepare",
  corpus_stages.run_preparation,
  corpus_stages.check_preparation,
  corpus_stages.forecast_preparation,
  has_model=False,
  files=(corpus_stages.SHARDS, corpus_stages.REPORT),
)
PRETRAIN = Runner(
  "pretrain",
  corpus_stages.run_pretraining,
  corpus_stages.check_pretraining,
  corpus_stages.forecast_pretraining,
  has_model=True,
)
# Policy or reward model from given data.
SFT = _training("sft", sft.train, lambda config: SFTSettings, forecasts.supervised)
REWARD_MODEL = _training("reward_model", reward_model.train, lambda config: RewardModelSettings, forecasts.reward_model)
GENERATIVE_REWARD = _training(
  "generative_reward", generative_reward.train, lambda config: GenerativeRewardSettings, forecasts.judgements
)
DPO = _training("dpo", dpo.train, _dpo_record, forecasts.preference_optimization)
# Policy from its own answers; rollouts/ has the sampled answers.
GRPO = _training("grpo", grpo.train, lambda config: GRPOSettings, forecasts.policy_gradient, "rollouts", METRICS_FILE)
# The same against another model, whose answers give the rewards.
ATTACKER = _training("attacker", grpo.train, _attacker_record, forecasts.policy_gradient, "rollouts", METRICS_FILE)
PPO = _training("ppo", ppo.train, lambda config: PPOSettings, forecasts.policy_gradient, "rollouts", METRICS_FILE)
# Data from a policy's answers; candidates/ has all answers with their scores.
COLLECT = Runner(
  "collect",
  _collect,
  _check_collection,
  forecasts.collection,
  has_model=False,
  files=(collect.DEMONSTRATIONS, collect.PAIRS, "candidates"),
)
# Pairs from the answers of several policies.
PREFERENCES = _between("preferences", preferences.prefer, preferences.check, preferences.forecast, collect.PAIRS)
# The rows of several files as one.
JOIN = _between("join", joining.join, joining.check, joining.forecast, joining.ROWS)
# Some rows of a file, such as public data.
PICK = _between("pick", picking.pick, picking.check, picking.forecast, picking.ROWS)
# The average of models, or one chosen checkpoint of a run.
AVERAGE = Runner("average", average.average, average.check, forecasts.nothing, has_model=True, resumes=False)
# The best of several models by a measure.
CHOOSE = Runner("choose", choice.choose, choice.check, forecasts.nothing, has_model=True, resumes=False)
# Measures of a model.
EVALUATE = Runner(
  "evaluate",
  evaluation.measure,
  evaluation.check,
  forecasts.evaluation,
  has_model=False,
  files=(METRICS_FILE, "rollouts"),
)
# Measures in the assistant world of how helpful, harmless and honest a model is.
ALIGNMENT = _between(
  "alignment", alignment.measure, alignment.check, alignment.forecast, METRICS_FILE, alignment.ANSWERS, "rollouts"
)
# How often a model complies when it is attacked.
ATTACK = _between("attack", attacks.attack, attacks.check, attacks.forecast, attacks.ATTACKS, attacks.SUCCESSES)
# Whether a model treats people differently who live in different places.
PROBE = _between(
  "probe", bias_probes.probe, bias_probes.check, bias_probes.forecast, bias_probes.PROBES, bias_probes.DIFFERENCES
)
# How well a model that judges agrees with the rules on the answers of a measurement.
JUDGE = _between(
  "judge",
  judged_answers.judge,
  judged_answers.check,
  forecasts.nothing,
  judged_answers.JUDGED,
  judged_answers.AGREEMENT,
)
# What models gain over others in the assistant world, and what they lose.
GAINS = _between("gains", gains.compare, gains.check, forecasts.nothing, gains.GAINS)
# Where general data does not move a model, for `optimizer.null_space`.
NULL_SPACE = _between(
  "null_space",
  general_data.find_null_spaces,
  check_of(general_data.NullSpaceSearch),
  general_data.forecast_search,
  general_data.NULL_SPACE,
)
# How far training moved the logits on general data.
LOGIT_MOVES = _between(
  "logit_moves",
  general_data.measure_moves,
  check_of(general_data.LogitMoves),
  general_data.forecast_moves,
)
# What models gain by one measure against what they lose by another.
TRADEOFF = _between("tradeoff", tradeoff.draw, tradeoff.check, forecasts.nothing, tradeoff.TRADEOFF, tradeoff.PICTURE)
# Stops the recipe if a stage has lost more than its bound.
GATE = _between("gate", gate.pass_gate, gate.check, forecasts.nothing, gate.GATE)
# Writes a model card, and stops the recipe if the model breaks a bound.
RELEASE = _between("release", release.decide, release.check, forecasts.nothing, release.CARD, release.VERDICT)
# What runs of RL measured over their steps.
CURVES = _between("curves", curves.draw, curves.check, forecasts.nothing, curves.CURVES, curves.PICTURE)
# How often a rater of the assistant world prefers one model's answers to another's.
COMPARE = _between("compare", comparison.compare, comparison.check, forecasts.nothing, comparison.COMPARISON)


def function(
  made: Callable[[ConfigDict, pathlib.Path], Mapping[str, Any] | None],
  *files: str,
  check: Callable[[ConfigDict], Any] = lambda config: None,
  forecast: Callable[[ConfigDict, Forecast], Effort] = forecasts.nothing,
) -> Runner:
  """Makes a kind of stage from a function.

  It is called with the stage's config, in which the inputs' paths are filled in, and with an empty folder. There it
  writes its files. If it is killed it is called again, with an empty folder. Its source is part of the stage's digest,
  that of functions which it calls is not.

  Args:
    made: the function; what it returns are numbers for the report.
    *files: names of the files that it writes and later stages may take.
    check: raises InputError if a config has a wrong field, before anything runs; by default every config is right.
    forecast: estimates its work; nothing by default.
  """
  try:
    source = inspect.getsource(made)
  except (OSError, TypeError):
    source = made.__qualname__
  return Runner(
    made.__name__,
    made,
    check,
    forecast,
    has_model=False,
    files=files,
    resumes=False,
    source=source,
  )
