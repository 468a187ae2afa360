import dataclasses

import pytest
from flax import nnx

from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.rollout_engine import SamplingSettings
from posttrain_jax.data import demonstrations
from posttrain_jax.data.prompts import PromptFormat, Row
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.evaluation.generate import generate
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import Transformer
from posttrain_jax.types import InputError

GREEDY = SamplingSettings(temperature=0.0, top_k=0, top_p=1.0, min_p=0.0, stop_ids=(), stop_strings=())
RANDOM = dataclasses.replace(GREEDY, temperature=1.0)


@pytest.fixture(scope="module")
def policy():
  tokenizer = tiny_tokenizer(demonstrations.SYMBOLS)
  sizes = dict(num_layers=1, embed_dim=16, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=8)
  model = TransformerConfig(vocab_size=tokenizer.vocab_size, **sizes)
  return Policy(model, tokenizer, nnx.state(Transformer(model, nnx.Rngs(0))))


def ask(policy, *prompts, sampling=GREEDY, template="{prompt}", **options):
  rows = [Row({"prompt": prompt}, f"row {i}") for i, prompt in enumerate(prompts)]
  return generate(policy, rows, PromptFormat(template=template), sampling, max_new_tokens=8, **options)


def test_the_most_likely_answer_needs_no_seed_and_the_format_counts(policy):
  ((answer,),) = ask(policy, "1+2=")
  assert ask(policy, "1+2=", seed=1) == [[answer]]
  assert ask(policy, "2", template="1+{prompt}=") == [[answer]]


def test_samples_depend_on_the_seed(policy):
  (first,), (second,) = (ask(policy, "1+2=", sampling=RANDOM, samples=4, seed=seed) for seed in (0, 1))
  assert len(first) == 4 and len(set(first)) > 1 and first != second
  assert ask(policy, "1+2=", sampling=RANDOM, samples=4, seed=0) == [first]


def test_the_token_that_ends_an_answer_is_no_text(policy):
  (answers,) = ask(policy, "1+2=", sampling=RANDOM, samples=32)
  assert min(map(len, answers)) < 8 and not any("<eos>" in answer for answer in answers)


@pytest.mark.parametrize("prompt", ["", "Ω"])
def test_bad_prompts_are_named(policy, prompt):
  with pytest.raises(InputError, match="row 1"):
    ask(policy, "1+2=", prompt)


def test_a_reward_model_answers_nothing(policy):
  judge = dataclasses.replace(policy, model=dataclasses.replace(policy.model, scalar_head=True))
  with pytest.raises(InputError, match="--model: is a reward model"):
    ask(judge, "1+2=")
