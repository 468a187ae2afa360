"""Tests that recipes put gates where their stages have bounds."""

import pytest

from configs.recipes import alignment_tax, constitutional_ai, deepseek_v3, instructgpt, lima, llama3, r1, reasoning_tax
from posttrain_jax.recipes.recipe import check_stages
from posttrain_jax.recipes.runners import GATE
from posttrain_jax.types import InputError


def gates_of(module, **bounds):
  config = module.get_config()
  for name, measures in bounds.items():
    config.gates[name].may_fall.update(measures)
  stages = module.get_stages(config)
  check_stages(stages)
  return stages, {stage.name: stage for stage in stages if stage.run is GATE}


@pytest.mark.parametrize(
  "module", [alignment_tax, constitutional_ai, deepseek_v3, instructgpt, lima, llama3, r1, reasoning_tax]
)
def test_no_bounds_no_gates(module):
  assert gates_of(module)[1] == {}


def test_a_gate_comes_right_after_the_measurements_that_it_compares():
  stages, found = gates_of(instructgpt, rlhf={"seen/facts": 0.1, "known_rare": 0.2})
  assert list(found) == ["rlhf_gate"]
  names, gate = [stage.name for stage in stages], found["rlhf_gate"]
  assert names.index("rlhf_gate") == names.index("rlhf_measures") + 1
  assert gate.needs() == ["sft_measures", "rlhf_measures"]
  assert gate.config.stage == "rlhf"
  assert gate.config.bounds.may_fall.to_dict() == {"seen/facts": 0.1, "known_rare": 0.2}


def test_bounds_of_a_round_hold_in_all_rounds():
  _, found = gates_of(llama3, dpo={"seen/rated": 0.1})
  assert [stage.config.stage for stage in found.values()] == ["dpo_1", "dpo_2", "dpo_3"]
  assert found["dpo_2_gate"].needs() == ["sft_2_measures", "dpo_2_measures"]


def test_a_bound_counts_from_the_base_model_where_all_models_start_from_it():
  _, found = gates_of(lima, quarter={"known_rare": 0.1})
  assert list(found) == ["quarter_gate"] and found["quarter_gate"].needs() == ["base_measures", "quarter_measures"]


def test_an_unknown_measure_is_refused_before_anything_runs():
  with pytest.raises(InputError, match=r"gates.r1.may_fall.seen/fact: no such measure, expected one of: .*seen/facts"):
    gates_of(r1, r1={"seen/fact": 0.1})
