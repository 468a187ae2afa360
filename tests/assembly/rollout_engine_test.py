"""Tests a config's engines: their sizes, and which samples are refused."""

import dataclasses

import jax
import pytest

from configs import tiny_dapo
from posttrain_jax.assembly import rollout_engine as rollout_engine_module
from posttrain_jax.assembly.model import ModelSettings, load_policy
from posttrain_jax.assembly.rollout_engine import RolloutSettings, describe_ends, make_engine, rollout_engine
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.runs.settings import parse
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import InputError, Prompt

PROMPTS = [Prompt(0, (1, 2, 3), {}), Prompt(1, (1, 2, 3, 4, 5), {})]


def settings(**changes):
  config = tiny_dapo.get_config().rollout
  config.update_from_flattened_dict(changes)
  return parse(RolloutSettings, config, "rollout")


@pytest.fixture(scope="module")
def made():
  return load_policy(parse(ModelSettings, tiny_dapo.get_config().model, "model")), make_mesh({}, jax.devices()[:1])


def test_caches_are_as_long_as_the_longest_prompt_needs(made):
  engine = rollout_engine(settings(), *made[:1], PROMPTS, made[1], seed=0)
  config = settings()
  assert engine.sizes == Sizes(
    slots=128,
    max_prompt_length=5,
    max_new_tokens=24,
    share=config.group_size,
    steps_per_dispatch=config.steps_per_dispatch,
    prefill_chunk=config.prefill_chunk,
    prefill_width=config.prefill_width,
    prefills_per_dispatch=config.prefills_per_dispatch,
  )
  assert engine.sampling.stop_ids == made[0].tokenizer.stop_ids


@pytest.mark.parametrize("change", [{"sampling.top_p": 0.9}, {"sampling.top_k": 5}, {"sampling.min_p": 0.1}])
def test_truncated_samples_are_trained_on_only_if_the_config_says_so(made, change):
  with pytest.raises(InputError, match=r"^rollout\.sampling: top_k, top_p and min_p .*train_on_truncated"):
    rollout_engine(settings(**change), made[0], PROMPTS, made[1], seed=0)
  allowed = dataclasses.replace(settings(**change), train_on_truncated=True)
  assert rollout_engine(allowed, made[0], PROMPTS, made[1], seed=0).sampling.truncates
  # An engine whose samples are not trained on may truncate.
  assert make_engine(settings(**change), *made, seed=0, max_prompt_length=5).sampling.truncates


def test_the_configs_stops_are_added_to_the_models_and_named(made):
  engine = make_engine(settings(**{"sampling.stop_ids": (7, 1)}), *made, seed=0, max_prompt_length=5)
  assert engine.sampling.stop_ids == (1, 7) and engine.sampling.greedy().stop_ids == (1, 7)
  assert describe_ends(made[0].tokenizer, engine.sampling) == "answers end at 1 '<eos>', 7 '5'"
  engine = make_engine(settings(**{"sampling.stop_strings": ("Wait",)}), *made, seed=0, max_prompt_length=5)
  assert engine.decode(made[0].tokenizer.encode("5+2=")) == "5+2=" and engine.sampling.stop_strings == ("Wait",)
  assert describe_ends(made[0].tokenizer, engine.sampling) == "answers end at 1 '<eos>', the text 'Wait'"
  assert describe_ends(made[0].tokenizer) == "answers end at 1 '<eos>'"
  with pytest.raises(InputError, match=r"^rollout\.sampling\.stop_ids: 999, expected ids of the tokeniser"):
    make_engine(settings(**{"sampling.stop_ids": (999,)}), *made, seed=0, max_prompt_length=5)


def test_a_model_that_nothing_stops_is_warned_about(made, caplog):
  rollout_engine_module._warn_of_no_end.cache_clear()
  policy = dataclasses.replace(made[0], tokenizer=dataclasses.replace(made[0].tokenizer, stop_ids=()))
  engine = make_engine(settings(), policy, made[1], seed=0, max_prompt_length=5)
  assert describe_ends(policy.tokenizer, engine.sampling) == "nothing ends an answer but its cap"
  assert "rollout.sampling: nothing ends an answer but its cap" in caplog.text
  assert caplog.records[-1].levelname == "WARNING"


def test_a_context_that_answers_may_outgrow_is_refused(made):
  policy, mesh = made

  def engine(context, **more):
    model = dataclasses.replace(policy.model, max_position_embeddings=context, **more)
    return make_engine(settings(), dataclasses.replace(policy, model=model), mesh, seed=0, max_prompt_length=5)

  with pytest.raises(InputError, match=r"^prompts of up to 5 and answers of 24 tokens: 29 tokens are more than .* 28 "):
    engine(28)
  assert engine(28, beyond_context=True).sizes == engine(29).sizes
  reader = dataclasses.replace(policy.model, scalar_head=True, max_position_embeddings=20)
  with pytest.raises(InputError, match=r"^reward_model: prompts of up to 5 and answers of 24 tokens: 29 tokens"):
    engine(29).check_reader(reader, "reward_model")
  engine(29, beyond_context=True).check_reader(reader, "reward_model")
