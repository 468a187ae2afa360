"""Compares a model that was converted with the same one in transformers.

It needs `pip install -e '.[interop]'`, and is skipped without it.
"""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch and transformers: pip install -e '.[interop]'")
transformers = pytest.importorskip("transformers", reason="needs torch and transformers: pip install -e '.[interop]'")

from configs import tiny_reward_model, tiny_sft  # noqa: E402
from posttrain_jax.assembly.convert import convert  # noqa: E402
from posttrain_jax.data import demonstrations  # noqa: E402
from posttrain_jax.data.tokenizer import Tokenizer  # noqa: E402
from posttrain_jax.data.vocabularies import tiny_tokenizer  # noqa: E402
from posttrain_jax.evaluation.score import score  # noqa: E402
from posttrain_jax.models.config import RopeScaling, TransformerConfig  # noqa: E402
from posttrain_jax.pipelines import reward_model, sft  # noqa: E402
from tests.assembly.convert_test import write_run  # noqa: E402
from tests.pipelines.small_offline import small  # noqa: E402
from tests.random_params import random_params  # noqa: E402

pytestmark = pytest.mark.interop
TOKENIZER = tiny_tokenizer(demonstrations.SYMBOLS)
ROWS = ["7+8-2*3=", "1*1= Wait, +8=5 Answer: 5<eos>", "9-4="]


def ours(tmp_path, model, rows, greedy=0):
  source, output = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
  source.write_text("".join(json.dumps({"tokens": row}) + "\n" for row in rows))
  score(str(model), str(source), str(output), greedy_tokens=greedy)
  return [json.loads(line) for line in output.read_text().splitlines()]


def token_rows(vocab_size):
  return np.random.default_rng(0).integers(2, vocab_size, (3, 12)).tolist()


def assert_same_logprobs(directory, expected, rows):
  model = transformers.AutoModelForCausalLM.from_pretrained(directory)
  assert model.dtype == torch.float32
  with torch.no_grad():
    for row, record in zip(rows, expected, strict=True):
      logprobs = torch.log_softmax(model(torch.tensor([row])).logits[0], -1)
      found = logprobs[:-1].gather(1, torch.tensor(row)[1:, None])[:, 0]
      np.testing.assert_allclose(found, record["logprobs"], atol=5e-5)
  return model


# Heads are wider than width / heads where an architecture can say so.
LLAMA3 = RopeScaling(8.0, 1.0, 4.0, 64)


@pytest.mark.parametrize(
  "options",
  [
    {"head_dim": 6},
    {"tied": True, "rope_scaling": LLAMA3, "norm_epsilon": 1e-4},
    {"qkv_bias": True, "tied": True, "head_dim": 6, "rope_theta": 1e6},
    {"qk_norm": True, "head_dim": 6, "rope_scaling": LLAMA3},
    {"qk_norm": True, "tied": True, "embed_dim": 18},
  ],
)
def test_every_family(tmp_path, options):
  sizes = dict(num_layers=3, embed_dim=16, mlp_dim=12, num_heads=4, num_kv_heads=2, head_dim=4)
  model = TransformerConfig(TOKENIZER.vocab_size, **sizes | options)
  write_run(tmp_path / "run", model, random_params(model), tokenizer=TOKENIZER)
  convert(str(tmp_path / "run"), tmp_path / "output", shard_bytes=4000)
  rows = token_rows(model.vocab_size)
  assert_same_logprobs(tmp_path / "output", ours(tmp_path, tmp_path / "run", rows), rows)


def test_a_trained_language_model_and_its_tokeniser(tmp_path):
  sft.train(small(tiny_sft, steps=4, **{"eval.every": 0, "eval.best": ""}), str(tmp_path / "run"))
  convert(str(tmp_path / "run"), tmp_path / "output")
  tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "output")
  own = Tokenizer.load(tmp_path / "run" / "tokenizer")
  rows = [tokenizer(text)["input_ids"] for text in ROWS]
  assert rows == [own.encode(text) for text in ROWS]
  assert [tokenizer.decode(row) for row in rows] == ROWS
  assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (own.eos_id, own.pad_id)
  expected = ours(tmp_path, tmp_path / "run", rows, greedy=8)
  model = assert_same_logprobs(tmp_path / "output", expected, rows)
  assert model.generation_config.eos_token_id in (own.eos_id, [own.eos_id])
  with torch.no_grad():
    for row, record in zip(rows, expected, strict=True):
      prompt = torch.tensor([row])
      drawn = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False, eos_token_id=-1
      )
      assert drawn[0, len(row) :].tolist() == record["greedy"]


@pytest.mark.parametrize("shifted", [False, True])
def test_a_trained_reward_model(tmp_path, shifted):
  changes = {"eval.every": 2 if shifted else 0, "eval.best": "heldout/accuracy" if shifted else ""}
  config = small(tiny_reward_model, steps=4, shift_to_demonstrations=shifted, **changes)
  reward_model.train(config, str(tmp_path / "run"))
  convert(str(tmp_path / "run"), tmp_path / "output")
  tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "output")
  batch = tokenizer(ROWS, padding=True, return_tensors="pt")
  model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "output")
  assert model.config.num_labels == 1
  with torch.no_grad():
    found = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
  # Transformers has no bias, but shows the field of our own.
  assert model.config.score_bias != 0
  expected = [record["reward"] for record in ours(tmp_path, tmp_path / "run", [TOKENIZER.encode(row) for row in ROWS])]
  np.testing.assert_allclose(found + model.config.score_bias, expected, atol=5e-5)


def test_a_reward_model_whose_texts_end_with_the_padding(tmp_path):
  model = TransformerConfig(TOKENIZER.vocab_size, 2, 16, 12, 4, 2, 4, qkv_bias=True, scalar_head=True)
  tokenizer = Tokenizer(TOKENIZER.backend, eos_id=1, pad_id=1, stop_ids=(1,))
  write_run(tmp_path / "run", model, random_params(model), tokenizer=tokenizer)
  convert(str(tmp_path / "run"), tmp_path / "output")
  row = tokenizer.encode(ROWS[1])
  classifier = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "output")
  with torch.no_grad():
    found = classifier(torch.tensor([row])).logits[0, 0].item() + classifier.config.score_bias
  assert found == pytest.approx(ours(tmp_path, tmp_path / "run", [row])[0]["reward"], abs=5e-5)
