"""Tests the order of a run's assembly: everything is read before anything is written."""

import contextlib

import pytest

from configs import tiny_dapo, tiny_sft
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.pipelines.sft import SFTSettings
from posttrain_jax.runs.settings import parse
from posttrain_jax.runs.workdir import read_config, read_json
from posttrain_jax.types import InputError
from tests.pipelines.small_offline import small


def settings(**changes):
  return parse(SFTSettings, small(tiny_sft, sampled=True, **changes))


def test_nothing_is_written_before_the_workdir_is_opened(tmp_path):
  found = settings()
  with contextlib.ExitStack() as stack:
    run = MethodAssembly(found, stack)
    run.evaluator(found.eval, found.rewards, run.workers(found.rewards))
    assert not list(tmp_path.iterdir())
    directory, _ = run.open(str(tmp_path / "run"))
  assert set(read_json(directory.path)["digests"]) == {"tokenizer", "eval.sets.heldout.prompts"}
  assert read_config(directory.path).eval.sets.heldout.samples == 2
  assert (directory.path / "model.json").exists()


def test_a_random_policy_is_refused_unless_it_is_warmed_up():
  found = settings()
  with contextlib.ExitStack() as stack:
    with pytest.raises(InputError, match=r"^model\.path: empty, and warmup has no steps; expected a model or"):
      MethodAssembly(found, stack).require_trained_policy()
    warmup = parse(GRPOSettings, small(tiny_dapo, sampled=True, **{"warmup.steps": 1})).warmup
    MethodAssembly(found, stack, warmup=warmup).require_trained_policy()


def test_a_model_that_reads_any_text_is_not_warmed_up_on_arithmetic_for_data_of_ones_own(tmp_path):
  rows = tmp_path / "rows.jsonl"
  rows.write_text('{"prompt": "Name a colour.", "answer": "red", "completion": "red"}\n')
  changes = {"mesh.data": 8, "model.vocabulary": "bytes", "warmup.steps": 1, "prompts.path": str(rows)}

  def read(**more):
    config = tiny_dapo.get_config()
    config.update_from_flattened_dict(changes | more)
    found = parse(GRPOSettings, config)
    with contextlib.ExitStack() as stack:
      return MethodAssembly(found, stack, warmup=found.warmup).prompts(found.prompts, max_prompt_length=40)

  message = rf"^warmup: would train on the procedural task, while prompts\.path is {rows}; expected warmup\.demonstr"
  with pytest.raises(InputError, match=message):
    read()
  assert len(read(**{"warmup.steps": 0})) == len(read(**{"warmup.demonstrations.path": str(rows)})) == 1
  assert len(read(**{"prompts.path": "", "prompts.per_difficulty": 2})) > 1


def test_config_json_keeps_the_settings_that_it_is_given(tmp_path):
  found = settings()
  with contextlib.ExitStack() as stack:
    directory, _ = MethodAssembly(found, stack).open(str(tmp_path / "run"), settings(steps=3), save_model=False)
  assert read_config(directory.path).steps == 3 and not (directory.path / "model.json").exists()


def test_votes_and_verifier_read_answers_alike():
  found = settings(**{"eval.answer_style": "boxed"})
  with contextlib.ExitStack() as stack, pytest.raises(InputError, match=r"^eval\.answer_style: 'boxed', expected"):
    run = MethodAssembly(found, stack)
    run.evaluator(found.eval, found.rewards, run.workers(found.rewards))


def test_the_accuracy_is_one_of_the_reward_functions():
  found = settings(**{"rewards.accuracy": "corect"})
  with contextlib.ExitStack() as stack, pytest.raises(InputError, match=r"^(rewards\.)?accuracy.*'corect'"):
    run = MethodAssembly(found, stack)
    run.evaluator(found.eval, found.rewards, run.workers(found.rewards))
