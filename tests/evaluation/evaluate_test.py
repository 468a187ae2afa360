import dataclasses
import importlib
import json

import numpy as np
import pytest
from flax import nnx

from posttrain_jax.assembly.judges import make_workers
from posttrain_jax.assembly.model import Policy
from posttrain_jax.data import demonstrations
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.evaluation.answer_records import answer_lines
from posttrain_jax.evaluation.evaluate import _rewards, evaluate
from posttrain_jax.evaluation.public_benchmarks import BENCHMARKS, Benchmark
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import Transformer
from posttrain_jax.rewards import equality
from posttrain_jax.rewards.extract import AnswerStyle, find_answer
from posttrain_jax.types import InputError


@pytest.fixture(scope="module")
def policy():
  tokenizer = tiny_tokenizer(demonstrations.SYMBOLS)
  sizes = dict(num_layers=1, embed_dim=16, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=8)
  model = TransformerConfig(vocab_size=tokenizer.vocab_size, **sizes)
  return Policy(model, tokenizer, nnx.state(Transformer(model, nnx.Rngs(0))))


def write(path, answers):
  path.write_text("".join(json.dumps({"prompt": f"{i}+1=", "answer": answer}) + "\n" for i, answer in answers))
  return str(path)


def test_metrics_of_answers_that_are_known(policy, tmp_path):
  benchmark = Benchmark("{prompt}", AnswerStyle.LAST_NUMBER, samples=2, max_new_tokens=12)
  numbers = list(range(10))
  path = write(tmp_path / "first.jsonl", [(i, "98765") for i in numbers])
  metrics, groups = evaluate(policy, benchmark, path, limit=9, slots=8, judges=0)
  assert (metrics["problems"], metrics["avg@2"], metrics["greedy"]) == (9, 0.0, 0.0)

  # The same answers once more, the first of each problem being the right one.
  found = [[find_answer(text, AnswerStyle.LAST_NUMBER) for text in group.texts] for group in groups]
  assert sum(first is not None for first, _ in found) > 4, "the seed gives too few answers with a number"
  path = write(tmp_path / "second.jsonl", [(i, first or "98765") for i, (first, _) in zip(numbers, found)])
  metrics, again = evaluate(policy, benchmark, path, slots=8, judges=0)
  assert [group.texts for group in again] == [group.texts for group in groups]
  right = np.array(
    [[first is not None, second is not None and equality.same_answer(second, first or "98765")]
     for first, second in found]
  )  # fmt: skip
  assert metrics["avg@2"] == pytest.approx(right.mean())
  assert metrics["pass@2"] == pytest.approx(right.any(axis=1).mean())


def test_procedural_problems_need_no_file(policy):
  benchmark = dataclasses.replace(BENCHMARKS["chains"], samples=1, max_new_tokens=2)
  metrics, _ = evaluate(policy, benchmark, limit=3, slots=8, judges=0)
  assert metrics["problems"] == 3


def test_a_reward_function_of_ones_own_from_a_file(policy, tmp_path):
  source = tmp_path / "own.py"
  source.write_text("def long(texts, rows, *, least):\n  return [2.5 * (len(text) >= least) for text in texts]\n")
  (tmp_path / "rows.jsonl").write_text('{"prompt": "1+1="}\n{"prompt": "2+1="}\n')  # no answers: it needs none
  benchmark = Benchmark(
    "{prompt}", AnswerStyle.LAST_NUMBER, f"{source}:long", {"least": 0}, samples=2, max_new_tokens=12
  )
  metrics, groups = evaluate(policy, benchmark, str(tmp_path / "rows.jsonl"), slots=8, judges=0)
  assert (metrics["avg@2"], metrics["greedy"], metrics["reward"]) == (1.0, 1.0, 2.5)
  lines = answer_lines(groups, policy.tokenizer.decode, lambda text: text[:1])
  assert [(line["prompt"], line["problem"], line["sample"]) for line in lines] == [
    *(("1+1=", 0, 0), ("1+1=", 0, 1), ("2+1=", 1, 0), ("2+1=", 1, 1))
  ]
  for line, text in zip(lines, [text for group in groups for text in group.texts]):
    assert (line["answer"], line["extracted"], line["reference"]) == (text, text[:1], None)
    assert (line["accuracy"], line["reward"]) == (1.0, 2.5) and line["ended_by"] in ("eos", "length")
    assert json.loads(json.dumps(line)) == line


def test_what_is_refused(policy, tmp_path):
  with pytest.raises(InputError, match="--path: missing"):
    evaluate(policy, BENCHMARKS["gsm8k"])
  with pytest.raises(InputError, match=r"none\.jsonl: no such file"):
    evaluate(policy, BENCHMARKS["jsonl"], str(tmp_path / "none.jsonl"))


def test_refusals_are_told_apart_by_label_and_type(policy, tmp_path):
  rows = [{"prompt": f"{i}+1=", "label": ("safe", "unsafe")[i % 2], "type": ("one", "two")[i // 4]} for i in range(8)]
  (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  benchmark = dataclasses.replace(BENCHMARKS["xstest"], samples=2, max_new_tokens=12)
  metrics, _ = evaluate(policy, benchmark, str(tmp_path / "rows.jsonl"), slots=8, judges=0)
  # Numbers are no refusals.
  for name, expected in (("label/safe", 1), ("label/unsafe", 0), ("type/one", 0.5), ("type/two", 0.5)):
    assert metrics[f"{name}/avg@2"] == expected
  assert metrics["label/safe/avg@2_low"] == 1 and metrics["type/one/avg@2_low"] < 0.5 < metrics["type/one/avg@2_high"]
  assert 0 < metrics["self_bleu_low"] <= metrics["self_bleu"] <= 1 and metrics["ead"] > 0


@pytest.mark.parametrize("name", [name for name, each in BENCHMARKS.items() if each.options is None])
def test_verifiers_read_the_style_that_they_are_given(name):
  benchmark = BENCHMARKS[name]
  # As a model that does what it is asked would write it.
  right = {
    "answer_line": "So:\nAnswer: {}",
    "boxed": "So \\boxed{{{}}}.",
    "last_number": "It is {}.",
    "any": "It is {}.",
  }
  texts = [right[benchmark.style].format(value) for value in ("204", "205")] + [""]
  (function,) = make_workers(_rewards(benchmark, 0)).functions
  module, name = function.path.split(":")
  verify = getattr(importlib.import_module(module), name)
  assert verify(texts, [{"answer": "204"}] * 3, **function.options) == [1.0, 0.0, 0.0]
