"""Tests the models that read a run's answers: whose digest the run keeps, and what scores."""

import contextlib
import dataclasses
import types

import numpy as np
import pytest

from configs import tiny_generative_grpo, tiny_sft
from posttrain_jax.assembly.generative_judge import GenerativeJudgeSettings
from posttrain_jax.assembly.model import Policy, save_description
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.pipelines import scorers
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.pipelines.sft import SFTSettings
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError, Prompt
from tests.assembly import tiny_judge
from tests.pipelines.made_groups import answer, group
from tests.pipelines.small_offline import small
from tests.random_params import random_params


@pytest.fixture
def run():
  with contextlib.ExitStack() as stack:
    yield MethodAssembly(parse(SFTSettings, small(tiny_sft)), stack)


def written(path, model, tokenizer):
  with Checkpointer(path / "checkpoints") as checkpoints:
    checkpoints.save(1, {"params": random_params(model)}, {})
  save_description(Policy(model, tokenizer), path)
  return str(path)


def test_a_reward_model_scores_answers_and_the_run_keeps_its_digest(run, tmp_path):
  path = written(tmp_path, dataclasses.replace(run.policy.model, scalar_head=True), run.policy.tokenizer)
  before = set(run.digests)
  score = scorers.reward_scorer(run, path, "reward_model", engines=[])
  assert set(run.digests) - before == {"reward_model"}
  (scores,) = score([group([answer([4, 5, 1]), answer([6, 1])], [0, 1])])
  assert scores.shape == (2,) and np.isfinite(scores).all() and scores[0] != scores[1]


def test_a_language_model_is_no_reward_model(run, tmp_path):
  path = written(tmp_path, run.policy.model, run.policy.tokenizer)
  with pytest.raises(InputError, match=r"^reward_model: \S+ is a language model, expected a reward model"):
    scorers.reward_scorer(run, path, "reward_model", engines=[])


def judge(**changes):
  section = tiny_generative_grpo.judge()
  section.update(slots=8, **changes)
  return parse(GenerativeJudgeSettings, section, "judge")


def test_a_judge_is_a_model_of_its_own_or_the_policy(run, tmp_path):
  drawing, before = types.SimpleNamespace(sizes=types.SimpleNamespace(max_new_tokens=8)), set(run.digests)
  path = written(tmp_path, tiny_judge.MODEL, tiny_judge.TOKENIZER)
  run.policy = Policy(tiny_judge.MODEL, tiny_judge.TOKENIZER)
  scorers.generative_scorer(run, judge(path="", self_rewarding=True), engines=[drawing])
  assert set(run.digests) == before
  scorers.generative_scorer(run, judge(path=path), engines=[drawing])
  assert set(run.digests) - before == {"judge.path"}
  run.asked.append(Prompt(0, (4, 5), {"prompt": "1+1=" * 50}))
  with pytest.raises(InputError, match=r"^judge\.max_prompt_length: \d+, less 8 for an answer; 0: "):
    scorers.generative_scorer(run, judge(path=path), engines=[drawing])
