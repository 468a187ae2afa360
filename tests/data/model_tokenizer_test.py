"""Tests that SmolLM2's tokeniser, read from a GGUF file, has its published ids."""

import json
import pathlib

import pytest

from posttrain_jax.data.model_tokenizer import load_tokenizer
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.models.load import resolve
from posttrain_jax.types import InputError

GOLDEN = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "goldens" / "smollm2_135m_instruct.json"


@pytest.fixture(scope="module")
def smollm2():
  pytest.importorskip("gguf", reason="reading GGUF needs `pip install gguf`")
  try:
    resolve("smollm2-135m-instruct")
  except InputError as error:
    pytest.skip(str(error))
  return load_tokenizer("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def golden():
  if not GOLDEN.exists():
    pytest.skip(f"reference values are not here: {GOLDEN}")
  return json.loads(GOLDEN.read_text())


def test_smollm2_ids(smollm2, golden):
  for case in golden["tokenizer_cases"] + golden["cases"]:
    assert smollm2.encode(case["text"]) == case["ids"], case["text"]
    assert smollm2.decode(case["ids"]) == case["text"]
  for case in golden["cases"]:
    assert smollm2.decode(case["greedy_ids"]) == case["greedy_text"]


def test_smollm2_facts(smollm2):
  assert smollm2.vocab_size == 49152
  assert (smollm2.bos_id, smollm2.eos_id, smollm2.pad_id, smollm2.stop_ids) == (1, 2, 2, (2,))
  assert smollm2.encode("a", add_special_tokens=True) == smollm2.encode("a")


def test_smollm2_survives_saving(smollm2, tmp_path):
  smollm2.save(tmp_path)
  loaded = Tokenizer.load(tmp_path)
  assert loaded.digest() == smollm2.digest()
  text = "Ünïcödé  12345 <|im_start|>user\n🎉<|im_end|>"
  assert loaded.encode(text) == smollm2.encode(text)
