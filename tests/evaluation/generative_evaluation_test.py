"""Tests the two ways to read a judge's score."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.data.judgements import JUDGE_SYMBOLS
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.evaluation.generative_evaluation import (
  GenerativeEvaluation,
  JudgedAnswers,
  score_position,
  score_tokens,
  verdict_metrics,
)
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.transformer import Transformer, abstract_transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.types import InputError, Prompt
from tests.pipelines.made_groups import answer, group

TOKENIZER = tiny_tokenizer(JUDGE_SYMBOLS)


def test_verdicts_of_hand_worked_scores():
  nan = math.nan
  scores = np.array([[1, 1], [0, 1], [nan, nan], [1, nan], [0, 0]])
  labels = np.array([1.0, 0, 0, 1, 0])
  found = verdict_metrics(scores, labels, ["a", "a", "a", "b", "c"], middle=0.5)
  # Problem a: its answers are judged rightly 1, 1/2 and 0 times out of 1; b: 1/2; c: 1.
  assert found["accuracy"] == pytest.approx((0.5 + 0.5 + 1) / 3)
  # Pairs of a: 1 over 1/2, which is right, and 1 over nothing, which is half right. b and c have none.
  assert found["pair_accuracy"] == pytest.approx(0.75)
  assert found["pairs"] == 2
  assert found["unparsed"] == pytest.approx(3 / 10)
  assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]


def test_a_score_in_the_middle_is_no_verdict():
  found = verdict_metrics(np.array([[3.0], [4.0], [2.0]]), np.array([5.0, 5, 1]), ["a", "b", "c"], middle=3)
  assert found["accuracy"] == pytest.approx(2 / 3)
  assert math.isnan(found["pair_accuracy"])


def test_tokens_of_scores():
  tokens = score_tokens(TOKENIZER, low=0, high=9)
  assert [TOKENIZER.decode([token]) for token in tokens] == list("0123456789")
  with pytest.raises(InputError, match="not one token each"):
    score_tokens(TOKENIZER, low=8, high=11)


@pytest.mark.parametrize(
  "text, expected",
  [("+8=5 Score: 1", 3), ("+8=5 Score: 1 Score: 0", 5), ("+8=5 Answer: 1", None), ("+8=5 Score: ", None)],
)
def test_where_the_score_stands(text, expected):
  tokens = np.array([*TOKENIZER.encode(text), TOKENIZER.eos_id], np.int32)
  assert score_position(TOKENIZER, tokens, score_tokens(TOKENIZER, low=0, high=1)) == expected


class Scripted:
  """Gives the same judgements under any parameters."""

  def __init__(self, judgements):
    self.judgements = judgements

  def load(self, params, version):
    pass

  def unload(self):
    pass

  def generate(self, prompts, count):
    made = [[answer([*TOKENIZER.encode(text), TOKENIZER.eos_id]) for text in each] for each in self.judgements]
    assert all(len(each) == count for each in made)
    return [
      dataclasses.replace(group(each, [0.0] * count), prompt=prompt) for prompt, each in zip(prompts, made, strict=True)
    ]


def test_both_readings_of_known_judgements():
  model = TransformerConfig(
    vocab_size=TOKENIZER.vocab_size, num_layers=2, embed_dim=16, mlp_dim=32, num_heads=2, num_kv_heads=1, head_dim=8
  )
  params = nnx.state(Transformer(model, nnx.Rngs(0)))
  params = jax.tree.map(lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), params)
  asked = ["1+1= Answer: 2 Wait, ", "1+1= Answer: 3 Wait, ", "1+2= Answer: 4 Wait, "]
  prompts = [Prompt(i, tuple(TOKENIZER.encode(text)), {}) for i, text in enumerate(asked)]
  greedy = [["+1=2 Score: 1"], ["+1=2 Score: 0"], ["+2=3"]]
  sampled = [["+1=2 Score: 1", "+1=2 Score: 0"], ["+1=2 Score: 0", "+1=2 Score: 0"], ["+2", "+2=3 Score: 1"]]
  mesh = make_mesh({}, jax.devices()[:1])
  judged = JudgedAnswers(prompts, np.array([1.0, 0, 0]), ["1+1=", "1+1=", "1+2="])
  evaluation = GenerativeEvaluation(
    model, TOKENIZER, judged, Scripted(sampled), Scripted(greedy), mesh, samples=2, low=0, high=1
  )
  hand_over = make_handover(params, num_layers=2, dtype="float32", mesh=mesh)
  metrics, groups = evaluation(hand_over(params), 0)
  assert groups["greedy"][0].texts == ("+1=2 Score: 1",)
  assert metrics["eval/sampled/accuracy"] == pytest.approx(((0.5 + 1) / 2 + 0) / 2)
  assert metrics["eval/sampled/pair_accuracy"] == 1
  assert metrics["eval/sampled/unparsed"] == pytest.approx(1 / 6)
  assert metrics["eval/labels/majority"] == pytest.approx(2 / 3)

  # Each text by itself through the model, up to before its score.
  graph, _ = abstract_transformer(model)
  expected = []

  @jax.jit
  def logits(tokens):
    transformer = nnx.merge(graph, params)
    return row_hidden(transformer, tokens)[0, -1] @ transformer.unembedding()

  for text, reasons in zip(asked[:2], ("+1=2 Score: ", "+1=2 Score: ")):
    found = logits(jnp.array([TOKENIZER.encode(text) + TOKENIZER.encode(reasons)]))
    odds = np.exp(np.asarray(found, np.float64)[TOKENIZER.encode("01")])
    expected.append(odds[1] / odds.sum())
  scores = evaluation._expected(hand_over(params), groups["greedy"])
  np.testing.assert_allclose(scores[:2], expected, rtol=1e-5)
  assert math.isnan(scores[2]) and metrics["eval/expected/unparsed"] == pytest.approx(1 / 3)
