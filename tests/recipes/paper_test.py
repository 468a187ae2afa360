import pytest
from ml_collections import ConfigDict

from configs import tiny_dapo, tiny_dpo, tiny_sft
from posttrain_jax.recipes import average, paper
from posttrain_jax.recipes.recipe import Stage, check_stages
from posttrain_jax.recipes.runners import AVERAGE, DPO, GRPO, SFT
from posttrain_jax.types import InputError


def stages():
  sft = Stage("sft", run=SFT, config=tiny_sft.get_config(), inputs={"model.path": "Qwen2.5-7B"})
  both = Stage("both", run=AVERAGE, config=average.models("a"), inputs={"models.a.path": sft.model})
  grpo = Stage("grpo", run=GRPO, config=tiny_dapo.get_config(), inputs={"model.path": both.model})
  dpo = Stage("dpo", run=DPO, config=tiny_dpo.get_config(), inputs={"model.path": grpo.model})
  return [sft, both, grpo, dpo]


@pytest.fixture
def proved(monkeypatch):
  """Stands in for the compiler, which needs libtpu; returns what it was called with."""
  calls = []

  def prove(config, *, topology_name):
    calls.append((config.model.path, topology_name))
    refused = ["update needs 99 GiB"] if len(calls) in prove.refused else []
    return {"programs": {"update": {"peak_gib": 3.0}}, "hbm_gib": 16.0, "refused": refused}

  prove.refused = ()
  monkeypatch.setattr(paper, "prove", prove)
  return prove, calls


def test_stages_are_compiled_with_the_sizes_of_their_base_model(proved):
  said = []
  check_stages(stages())
  reports = paper.prove_stages(stages(), "v5p:2x2x1", say=said.append)
  assert proved[1] == [("Qwen2.5-7B", "v5p:2x2x1")] * 3
  assert list(reports) == ["sft", "both", "grpo", "dpo"] and reports["both"] is None and reports["dpo"]["programs"]
  assert said[1] == "stage both: a stage of average is not compiled"
  assert said[2] == "stage grpo: 1 programs, the largest takes 3.0 GiB of 16.0"


def test_a_program_that_does_not_fit_is_said_at_the_end(proved):
  proved[0].refused = (2, 3)
  with pytest.raises(InputError, match=r"topology v5p: stage grpo: update needs 99 GiB \(and 1 others\)"):
    paper.prove_stages(stages(), "v5p", say=lambda line: None)
  assert len(proved[1]) == 3


def test_stages_that_differ_in_their_data_share_their_programs(proved):
  one, other, slower = (
    Stage(name, run=SFT, config=tiny_sft.get_config(), inputs={"model.path": "Qwen2.5-7B", "demonstrations.path": path})
    for name, path in (("one", "a.jsonl"), ("other", "b.jsonl"), ("slower", "b.jsonl"))
  )
  slower.config.batch_size = 8
  said = []
  proved[0].refused = (1,)
  with pytest.raises(InputError, match=r"stage one: update needs 99 GiB$"):
    paper.prove_stages([one, other, slower], "v5p", say=said.append)
  assert len(proved[1]) == 2 and said[1] == "stage other: the programs of one"


def test_other_inputs_keep_a_name():
  config = ConfigDict({"model": {"path": ""}, "reward_model": ""})
  sft, *_ = stages()
  stage = Stage("x", run=GRPO, config=config, inputs={"model.path": sft.model, "reward_model": sft.model})
  found = paper.with_base(stage, {"sft": sft, "x": stage})
  assert (found.model.path, found.reward_model) == ("Qwen2.5-7B", "sft")


def test_rules_for_rewards_change_no_program_and_a_reward_model_does(proved):
  made = {
    name: Stage(name, run=GRPO, config=tiny_dapo.get_config(), inputs={"model.path": "Qwen2.5-7B"} | more)
    for name, more in (("one", {}), ("other", {}), ("scored", {"reward_model": "scorer"}))
  }
  made["other"].config.rewards.functions = {}
  made["other"].config.steps = 7
  said = []
  paper.prove_stages(list(made.values()), "v5p", say=said.append)
  assert said[1] == "stage other: the programs of one" and said[2].startswith("stage scored: 1 programs")
