"""Numbers stand in the configs: the records that a config fills have none of their own."""

import dataclasses
import typing

import pytest

from posttrain_jax.pipelines.collect_settings import EditedCollection, SampledCollection
from posttrain_jax.pipelines.dpo import DPOSettings
from posttrain_jax.pipelines.generative_reward import GenerativeRewardSettings
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.pipelines.online_dpo_parts import OnlineDPOSettings
from posttrain_jax.pipelines.ppo_settings import PPOSettings
from posttrain_jax.pipelines.reward_model import RewardModelSettings
from posttrain_jax.pipelines.sft import SFTSettings
from posttrain_jax.recipes.average import AverageOfModels
from posttrain_jax.recipes.choice import ChoiceOfModel
from posttrain_jax.recipes.evaluation import MeasurementSettings
from posttrain_jax.recipes.preferences import ComparisonOfPolicies
from posttrain_jax.recipes.prices import CostSettings
from posttrain_jax.studies.forgetting_settings import ForgettingSettings
from posttrain_jax.studies.overoptimization_settings import OveroptimizationSettings

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
  ForgettingSettings,
  OveroptimizationSettings,
  AverageOfModels,
  ChoiceOfModel,
  MeasurementSettings,
  ComparisonOfPolicies,
  CostSettings,
)


def records(kind) -> set[type]:
  """Returns the records that a field of this type holds, with those in them."""
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
