"""Tests what a run on data of one's own is evaluated on, and that this is not trained on."""

import json

import pytest

from configs import tiny_dapo
from posttrain_jax.assembly.prompts import PromptSettings, load_prompts
from posttrain_jax.data.demonstrations import SYMBOLS
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.evaluation.evaluator import KLEvaluation
from posttrain_jax.evaluation.own_data import OwnPrompts, without_procedural
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

TOKENIZER = tiny_tokenizer(SYMBOLS)
LENGTH = 8
CHANGES = {"own_share": 0.3}


def evaluation(**changes):
  config = tiny_dapo.get_config().eval
  config.update_from_flattened_dict({**CHANGES, **changes})
  return parse(KLEvaluation, config, "eval")


def own(tmp_path, settings, count=40, **changes):
  path = tmp_path / "own.jsonl"
  rows = [{"prompt": f"{i % 10}+{i // 10}=", "answer": str(i)} for i in range(count)]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  config = tiny_dapo.get_config().prompts
  config.update(path=str(path), **changes)
  return OwnPrompts(parse(PromptSettings, config, "prompts"), settings, max_prompt_length=LENGTH)


def answers(prompts):
  return {prompt.row["answer"] for prompt in prompts}


def evaluated(prompts):
  sets, parts = prompts.sets()
  (part, length) = parts["heldout"]
  section = sets["heldout"].prompts
  return load_prompts(section, TOKENIZER, max_prompt_length=length, where="eval", part=part)[0]


def test_a_part_of_the_own_prompts_is_evaluated_and_not_trained_on(tmp_path):
  prompts = own(tmp_path, evaluation())
  trained, digests = prompts.training(TOKENIZER, where="prompts")
  held_out = evaluated(prompts)
  assert answers(trained) | answers(held_out) == {str(i) for i in range(40)}
  assert not answers(trained) & answers(held_out) and 5 < len(held_out) < 20
  assert set(digests) == {"prompts", "prompts.held_out"}
  assert f"a hash of the prompt holds {len(held_out)} of 40 out (eval.own_share=0.3)" in prompts.told
  assert "own.jsonl" in prompts.told and "\n" not in prompts.told


def test_at_most_so_many_are_evaluated(tmp_path):
  prompts = own(tmp_path, evaluation(own_limit=3), limit=10)
  assert len(evaluated(prompts)) == 3 and "the first 3 are evaluated" in prompts.told
  assert len(prompts.training(TOKENIZER, where="prompts")[0]) == 10


def test_all_are_trained_on_where_nothing_is_evaluated_on_them(tmp_path):
  named = evaluation(**{"sets.heldout.prompts.path": "test.jsonl"})
  for settings in (None, evaluation(own_share=0.0), named):
    prompts = own(tmp_path, settings)
    found, digests = prompts.training(TOKENIZER, where="prompts")
    assert len(found) == 40 and list(digests) == ["prompts"] and not prompts.told
  assert prompts.sets() == (named.sets, {})


def test_a_file_too_small_to_split_is_trained_on_and_not_evaluated(tmp_path):
  prompts = own(tmp_path, evaluation(own_share=1e-9), count=3)
  assert len(prompts.training(TOKENIZER, where="prompts")[0]) == 3
  assert prompts.sets() == ({}, {}) and "left out; of 3 prompts of" in prompts.told


def test_procedural_prompts_keep_the_procedural_set(tmp_path):
  settings = evaluation()
  prompts = OwnPrompts(parse(PromptSettings, tiny_dapo.get_config().prompts), settings, max_prompt_length=LENGTH)
  assert prompts.sets() == (settings.sets, {}) and not prompts.told


def test_data_without_answers_leave_procedural_sets_out():
  settings = evaluation()
  assert without_procedural(settings, "", otherwise="-validation/loss") == (settings, "")
  kept = evaluation(own_share=0.0)
  assert without_procedural(kept, "own.jsonl", otherwise="-validation/loss") == (kept, "")
  found, told = without_procedural(settings, "own.jsonl", otherwise="-validation/loss")
  assert found.sets == {} and found.best == "-validation/loss"
  assert "eval.sets.heldout: left out" in told and "in place of heldout/avg@8" in told
  found, told = without_procedural(evaluation(**{"sets.heldout.prompts.path": "t.jsonl"}), "own.jsonl", otherwise="")
  assert list(found.sets) == ["heldout"] and found.best == "heldout/avg@8" and not told


def test_no_sets_are_allowed():
  config = tiny_dapo.get_config().eval
  config.sets = {}
  settings = parse(KLEvaluation, config, "eval")
  best = "preferences/reward/accuracy"
  assert without_procedural(settings, "", otherwise=best)[0].best == best
  assert without_procedural(settings, "", otherwise="")[0] == settings


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_is_a_share(share):
  with pytest.raises(InputError, match=r"eval\.own_share: .*, expected a share from 0 to below 1"):
    evaluation(own_share=share)
