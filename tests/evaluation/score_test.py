import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

from posttrain_jax.assembly.model import Policy, save_description
from posttrain_jax.data import demonstrations
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.evaluation import score
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.models import load
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.types import InputError

GOLDENS = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "goldens"
needs_goldens = pytest.mark.skipif(not GOLDENS.exists(), reason=f"no reference values at {GOLDENS}")


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def scores(directory, model, rows, **options):
  output = directory / "scores.jsonl"
  counts = score.score(str(model), write(directory / "rows.jsonl", rows), str(output), **options)
  records = [json.loads(line) for line in output.read_text().splitlines()]
  assert counts == {"rows": len(rows), "tokens": sum(len(record["tokens"]) for record in records)}
  return records


@needs_goldens
@pytest.mark.parametrize("name", ["llama3", "smollm2", "qwen2_5", "qwen3_sharded"])
def test_transformers_values(tmp_path, name):
  directory = GOLDENS / "hf_tiny" / name
  expected = json.loads((directory / "expected.json").read_text())
  batch, greedy = expected["right_padded"], expected["greedy"]
  rows = [ids[:length] for ids, length in zip(batch["input_ids"], batch["lengths"])]
  assert rows[0] == greedy["prompt"]
  records = scores(tmp_path, directory, [{"tokens": row} for row in rows], greedy_tokens=len(greedy["tokens"]))
  assert [record["tokens"] for record in records] == rows
  for record, logprobs in zip(records, batch["next_token_logprobs"]):
    np.testing.assert_allclose(record["logprobs"], logprobs, rtol=0, atol=5e-5)
  assert records[0]["greedy"] == greedy["tokens"]


@needs_goldens
@pytest.mark.slow
def test_smollm2_on_text(tmp_path):
  try:
    load.resolve("smollm2-135m-instruct")
  except InputError as error:
    pytest.skip(str(error))
  cases = json.loads((GOLDENS / "smollm2_135m_instruct.json").read_text())["cases"]
  records = scores(tmp_path, "smollm2-135m-instruct", [{"text": case["text"]} for case in cases])
  for case, record in zip(cases, records):
    assert record["tokens"] == case["ids"]
    np.testing.assert_allclose(record["logprobs"], case["logprobs"], rtol=0, atol=2e-4)
    assert record["greedy"] == case["greedy_ids"]


@pytest.fixture(scope="module")
def tiny():
  if not GOLDENS.exists():
    pytest.skip(f"no checkpoint at {GOLDENS}")
  return GOLDENS / "hf_tiny" / "smollm2"


def test_batches_and_buckets_leave_a_row_its_numbers(tmp_path, tiny, monkeypatch):
  generator = np.random.default_rng(0)
  rows = [{"tokens": generator.integers(0, 128, length).tolist()} for length in (1, 40, 2, 17, 16, 5, 3, 9)]
  monkeypatch.setattr(score, "_TOKENS_PER_BATCH", 64)
  together = scores(tmp_path, tiny, rows, greedy_tokens=3)
  monkeypatch.setattr(score, "_TOKENS_PER_BATCH", 1)
  monkeypatch.setattr(score, "_MAX_SLOTS", 1)
  alone = scores(tmp_path, tiny, rows, greedy_tokens=3)
  for row, one, other in zip(rows, together, alone):
    assert (len(one["logprobs"]), len(one["greedy"])) == (len(row["tokens"]) - 1, 3)
    np.testing.assert_allclose(one["logprobs"], other["logprobs"], rtol=0, atol=2e-5)
    assert one["greedy"] == other["greedy"]


@needs_goldens
def test_a_reward_model_gives_rewards(tmp_path):
  directory = GOLDENS / "hf_tiny" / "reward_llama"
  case = json.loads((directory / "expected.json").read_text())["right_padded"]
  rows = [ids[:length] for ids, length in zip(case["input_ids"], case["lengths"])]
  records = scores(tmp_path, directory, [{"tokens": row} for row in rows])
  assert [record.keys() for record in records] == [{"tokens", "reward"}] * 2
  assert [record["tokens"] for record in records] == rows
  np.testing.assert_allclose([record["reward"] for record in records], case["scores"], rtol=0, atol=5e-5)


def test_no_greedy_tokens(tmp_path, tiny):
  (record,) = scores(tmp_path, tiny, [{"tokens": [1, 2, 3]}], greedy_tokens=0)
  assert record["greedy"] == [] and len(record["logprobs"]) == 2


@pytest.mark.parametrize(
  "row, message",
  [
    ({"tokens": []}, "found no tokens, expected at least one"),
    ({"tokens": [1, 999]}, "token 1 is 999, expected an id from 0 to "),
    ({"tokens": [-1]}, "token 0 is -1, expected an id from 0 to "),
    ({"tokens": [True]}, "token 0 is True, expected an id from 0 to "),
    ({"tokens": "abc"}, "tokens is str, expected a list of token ids"),
    ({"text": "abc"}, "found 'text', expected 'tokens': the model comes without a tokeniser"),
    ({"ids": [1]}, "found columns ids; expected 'tokens' or 'text', one of them"),
    ({"tokens": [1], "text": "a"}, "found columns tokens, text; expected 'tokens' or 'text', one of them"),
  ],
)
def test_a_bad_row_is_named_and_nothing_is_written(tmp_path, tiny, row, message):
  path = write(tmp_path / "rows.jsonl", [{"tokens": [1, 2]}, row])
  with pytest.raises(InputError) as caught:
    score.score(str(tiny), path, str(tmp_path / "scores.jsonl"))
  assert str(caught.value).startswith(f"{path}:2: {message}")
  assert sorted(entry.name for entry in tmp_path.iterdir()) == ["rows.jsonl"]


def test_output_in_a_directory_that_is_not_there(tmp_path, tiny):
  path = write(tmp_path / "rows.jsonl", [{"tokens": [1, 2]}])
  with pytest.raises(InputError, match="--output="):
    score.score(str(tiny), path, str(tmp_path / "none" / "scores.jsonl"))


def test_a_choice_of_checkpoint_is_for_workdirs(tmp_path, tiny):
  path = write(tmp_path / "rows.jsonl", [{"tokens": [1, 2]}])
  with pytest.raises(InputError, match="is not the workdir of a run"):
    score.score(str(tiny), path, str(tmp_path / "scores.jsonl"), which=score.Which.BEST)


@pytest.fixture
def with_tokenizer(monkeypatch):
  """Gives the tiny model a tokeniser, whose stop ids may be set."""
  tokenizer = tiny_tokenizer(demonstrations.SYMBOLS)

  def give(*stop_ids):
    changed = dataclasses.replace(tokenizer, stop_ids=stop_ids)
    monkeypatch.setattr(score, "find_tokenizer", lambda _: changed)
    return changed

  return give


def test_texts_stand_beside_ids(tmp_path, tiny, with_tokenizer):
  tokenizer = with_tokenizer()
  of_text, of_tokens = scores(tmp_path, tiny, [{"text": "1+2="}, {"tokens": [3, 4]}], greedy_tokens=3)
  assert of_text["text"] == "1+2=" and of_tokens["text"] == tokenizer.decode([3, 4])
  for record in (of_text, of_tokens):
    assert record["greedy_text"] == tokenizer.decode(record["greedy"]) and len(record["greedy"]) == 3


def test_a_continuation_may_stop_at_the_end_token(tmp_path, tiny, with_tokenizer):
  with_tokenizer()
  (whole,) = scores(tmp_path, tiny, [{"text": "1+2="}], greedy_tokens=6)
  end = whole["greedy"][2]
  first = whole["greedy"].index(end)
  tokenizer = with_tokenizer(end)
  (stopped,) = scores(tmp_path, tiny, [{"text": "1+2="}], greedy_tokens=6, stop=True)
  assert stopped["greedy"] == whole["greedy"][: first + 1]
  assert stopped["greedy_text"] == tokenizer.decode(whole["greedy"][:first])
  assert scores(tmp_path, tiny, [{"text": "1+2="}], greedy_tokens=6) == [whole]


def test_stopping_needs_a_tokeniser(tmp_path, tiny):
  with pytest.raises(InputError, match=r"--stop: .* comes without a tokeniser"):
    scores(tmp_path, tiny, [{"tokens": [1]}], stop=True)


def _uniform(path, **changes):
  """Saves a run whose model gives all ids the same probability; two of them have a token with text."""
  sizes = dict(num_layers=1, embed_dim=8, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=4)
  policy = Policy(TransformerConfig(vocab_size=9, **sizes, **changes), tiny_tokenizer("ab"))
  save_description(policy, path)
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), abstract_transformer(policy.model)[1])
  with Checkpointer(path / "checkpoints") as checkpoints:
    checkpoints.save(1, {"params": zeros}, {})
  return policy


def test_ids_without_a_token_keep_their_probability(tmp_path):
  """So logprobs are those of other libraries, although a run of the same model gives such ids none."""
  assert _uniform(tmp_path).model.absent_ids
  (record,) = scores(tmp_path, tmp_path, [{"text": "aba"}], greedy_tokens=0)
  np.testing.assert_allclose(record["logprobs"], -np.log(9), atol=1e-6)


def test_rows_longer_than_the_context_are_refused_unless_allowed(tmp_path):
  _uniform(tmp_path, max_position_embeddings=4)
  rows = [{"text": "aba"}, {"text": "abab"}]
  with pytest.raises(InputError, match=r"rows\.jsonl:2: 4 tokens and 1 more: 5 tokens are more than .* context of 4"):
    scores(tmp_path, tmp_path, rows, greedy_tokens=1)
  assert len(scores(tmp_path, tmp_path, rows, greedy_tokens=0)) == 2
  assert len(scores(tmp_path, tmp_path, rows, greedy_tokens=1, beyond_context=True)) == 2
