"""Numbers stand in the configs: the records that a config fills have none of their own."""

import dataclasses
import importlib
import types
import typing
from collections.abc import Mapping

import ml_collections
import pytest

from configs import tiny_dapo
from posttrain_jax.pipelines.collect_settings import EditedCollection, SampledCollection
from posttrain_jax.pipelines.dpo import DPOSettings
from posttrain_jax.pipelines.generative_reward import GenerativeRewardSettings
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.pipelines.online_dpo_parts import OnlineDPOSettings
from posttrain_jax.pipelines.ppo_settings import PPOSettings
from posttrain_jax.pipelines.prepare_settings import PrepareSettings
from posttrain_jax.pipelines.pretrain_settings import PretrainSettings
from posttrain_jax.pipelines.reward_model import RewardModelSettings
from posttrain_jax.pipelines.sft import SFTSettings
from posttrain_jax.recipes import assistant_data_settings
from posttrain_jax.recipes.alignment import AlignmentMeasurement
from posttrain_jax.recipes.average import AverageOfModels
from posttrain_jax.recipes.choice import ChoiceOfModel
from posttrain_jax.recipes.comparison import ComparisonSettings
from posttrain_jax.recipes.evaluation import MeasurementSettings
from posttrain_jax.recipes.gains import GainSettings
from posttrain_jax.recipes.joining import JoinSettings
from posttrain_jax.recipes.preferences import ComparisonOfPolicies
from posttrain_jax.recipes.prices import CostSettings
from posttrain_jax.studies.forgetting_settings import ForgettingSettings
from posttrain_jax.studies.overoptimization_settings import OveroptimizationSettings
from posttrain_jax.studies.pretraining_widths import WidthStudySettings

METHODS = (
  SFTSettings,
  RewardModelSettings,
  DPOSettings,
  OnlineDPOSettings,
  GRPOSettings,
  PPOSettings,
  GenerativeRewardSettings,
  EditedCollection,
  SampledCollection,
  PrepareSettings,
  PretrainSettings,
  ForgettingSettings,
  OveroptimizationSettings,
  WidthStudySettings,
  AlignmentMeasurement,
  assistant_data_settings.WorldComparisonSettings,
  assistant_data_settings.WorldDemonstrationSettings,
  assistant_data_settings.DocumentSettings,
  assistant_data_settings.WorldPromptSettings,
  AverageOfModels,
  ChoiceOfModel,
  ComparisonSettings,
  GainSettings,
  JoinSettings,
  MeasurementSettings,
  ComparisonOfPolicies,
  CostSettings,
)


# A config of each method, and the fields that only a few configs need.
CONFIGS = {
  "tiny_sft": SFTSettings,
  "tiny_reward_model": RewardModelSettings,
  "tiny_dpo": DPOSettings,
  "tiny_online_dpo": OnlineDPOSettings,
  "tiny_dapo": GRPOSettings,
  "tiny_ppo": PPOSettings,
  "tiny_generative_reward": GenerativeRewardSettings,
  "tiny_edited": EditedCollection,
  "prepare": PrepareSettings,
  "pretrain": PretrainSettings,
  "tiny_distillation": SampledCollection,
  "tiny_forgetting": ForgettingSettings,
  "tiny_overoptimization": OveroptimizationSettings,
  "pretraining_widths": WidthStudySettings,
}
NEEDED_BY_FEW = {
  "DemonstrationSettings.corpus",
  "DemonstrationSettings.crowd",
  "DemonstrationSettings.difficulties",
  "DemonstrationSettings.tagged",
  "GRPOSettings.judge",
  "GRPOSettings.target",
  "JudgementSettings.wording",
  "OptimizerConfig.null_space",
  "PromptSettings.difficulties",
  "SampledCollection.judge",
  "SetSettings.per_problem",
}


def records(kind) -> set[type]:
  """Returns the records that a field of this type holds, with those in them."""
  if hasattr(kind, "from_section"):  # reads its section itself
    return set()
  if not dataclasses.is_dataclass(kind):
    return {record for argument in typing.get_args(kind) for record in records(argument)}
  return {kind}.union(*map(records, typing.get_type_hints(kind).values()))


def defaults(record: type) -> list[str]:
  """Lists a record's fields with a default.

  None is not counted, as a config leaves out what it does not have.
  """
  missing = dataclasses.MISSING
  return [
    f"{record.__name__}.{field.name}"
    for field in dataclasses.fields(record)
    if field.default not in (missing, None) or field.default_factory is not missing
  ]


@pytest.mark.parametrize("method", METHODS)
def test_records_have_no_defaults(method):
  found = records(method)
  assert len(found) > 1
  assert [name for record in sorted(found, key=lambda record: record.__name__) for name in defaults(record)] == []


def test_a_default_is_found_however_deep():
  @dataclasses.dataclass
  class Inner:
    none: int | None = None
    zero: int = 0
    names: dict = dataclasses.field(default_factory=dict)

  Outer = dataclasses.make_dataclass("Outer", [("inner", typing.Mapping[str, Inner] | None)])
  assert records(Outer) == {Inner, Outer}
  assert defaults(Inner) == ["Inner.zero", "Inner.names"]


def left_out(kind, section) -> set[str]:
  """Names the fields of a record, and of the records in it, that a section does not have."""
  if not isinstance(section, Mapping | ml_collections.ConfigDict):
    return set()
  if hasattr(kind, "from_section"):  # reads its section itself
    return set()
  if not dataclasses.is_dataclass(kind):
    sections = section.values() if typing.get_origin(kind) not in (None, typing.Union, types.UnionType) else [section]
    return {name for each in sections for argument in typing.get_args(kind) for name in left_out(argument, each)}
  hints = typing.get_type_hints(kind)
  fields = [field for field in dataclasses.fields(kind) if not field.metadata.get("taken_from")]
  missing = {f"{kind.__name__}.{field.name}" for field in fields if field.name not in section}
  present = [field.name for field in fields if field.name in section]
  return missing.union(*(left_out(hints[name], section[name]) for name in present))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_names_every_field_that_its_method_takes(name):
  config = importlib.import_module(f"configs.{name}").get_config()
  assert left_out(CONFIGS[name], config) - NEEDED_BY_FEW == set()


def test_a_field_that_is_left_out_is_found_however_deep():
  config = tiny_dapo.get_config()
  del config.rollout.cache_tokens, config.eval.sets.heldout.prompts.limit
  found = left_out(GRPOSettings, config) - NEEDED_BY_FEW
  assert found == {"RolloutSettings.cache_tokens", "PromptSettings.limit"}
