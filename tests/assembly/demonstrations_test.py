import json

import numpy as np
import pytest

from configs import assistant_base, tiny_sft
from posttrain_jax.assembly.demonstrations import DemonstrationSettings, load_demonstrations, read_demonstrations
from posttrain_jax.data import prompts
from posttrain_jax.data.demonstrations import SYMBOLS
from posttrain_jax.data.supervised import Weighting
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

TOKENIZER = tiny_tokenizer(SYMBOLS)


def file(tmp_path, rows):
  path = tmp_path / "rows.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def load(batch_size=4, weighting=Weighting.TOKEN, **changes):
  section = tiny_sft.training().demonstrations
  section.update({"per_difficulty": 8, **changes})
  settings = parse(DemonstrationSettings, section, "demonstrations")
  return load_demonstrations(settings, TOKENIZER, batch_size=batch_size, weighting=weighting, seed=0)


def test_the_crowd():
  data = load()
  assert data.batches.batch(0).tokens.shape == (4, 64) and data.validation is None
  assert list(data.digests) == ["demonstrations"]
  assert data.digests == load().digests and data.digests != load(copies=1).digests
  assert data.facts["data/examples"] == data.batches.num_examples > data.facts["data/rows"]
  positions = data.facts["data/rows"] * 64
  assert data.facts["data/packing_efficiency"] == pytest.approx(data.facts["data/tokens"] / positions)


def test_another_crowd_on_other_problems():
  crowd = dict(careful=(1.0,), rambling=(0.0,), slip=0.0, doubt=0.7)
  section = tiny_sft.training().demonstrations
  section.update({"per_difficulty": 8, "copies": 1, "difficulties": (3,), "crowd": crowd})
  rows, _ = read_demonstrations(parse(DemonstrationSettings, section, "demonstrations"))
  assert {row.columns["difficulty"] for row in rows} == {3}
  assert {row.columns["demonstrator"] for row in rows} == {"careful"}
  section.crowd.slip = 2.0
  with pytest.raises(InputError, match=r"a share or probability of 2\.0"):
    read_demonstrations(parse(DemonstrationSettings, section, "demonstrations"))


def test_a_file(tmp_path):
  rows = [{"prompt": "1+2=", "completion": " Answer: 3"}, {"prompt": "2*2=", "completion": "*2=4 Answer: 4"}]
  path = file(tmp_path, rows)
  data = load(batch_size=1, path=path)
  text = TOKENIZER.decode(data.batches.batch(0).tokens[0])
  assert "1+2= Answer: 3" in text and "2*2=*2=4 Answer: 4" in text
  assert data.digests == {"demonstrations": prompts.file_digest(path)}
  assert load(batch_size=1, path=path, limit=1).facts["data/examples"] == 1


def test_empty_answers_are_dropped_and_counted(tmp_path):
  rows = [{"prompt": f"{i}+2=", "completion": said} for i, said in enumerate([" Answer: 3", "", "<eos>"])]
  data = load(batch_size=1, path=file(tmp_path, rows))
  assert (data.facts["data/examples"], data.facts["data/empty"], data.facts["data/over_limit_cut"]) == (1, 2, 0)
  with pytest.raises(InputError, match=r"rows\.jsonl:1: the answer is empty, and so are those of all 2 rows"):
    load(batch_size=1, path=file(tmp_path, rows[1:]))


@pytest.mark.parametrize(("asked", "said"), [("prompt", "completion"), ("question", "answer")])
def test_prompts_are_held_out_whole(tmp_path, asked, said):
  rows = [{asked: f"{i % 10}+{i // 10}=", said: f" Answer: {c}"} for i in range(40) for c in (1, 2)]
  data = load(path=file(tmp_path, rows), held_out=0.3, packed=False)

  def texts(batches):
    found = [TOKENIZER.decode(row[mask > 0]) for b in batches.in_order() for row, mask in zip(b.tokens, b.segment_ids)]
    return [text.partition("=")[0] for text in found if text]

  trained, held_out = texts(data.batches), texts(data.validation)
  assert len(trained) + len(held_out) == 80 and not set(trained) & set(held_out)
  assert 0.1 < len(held_out) / 80 < 0.5 and all(held_out.count(text) == 2 for text in held_out)


def test_sequence_weights(tmp_path):
  rows = [{"prompt": "1+2=", "completion": " Answer: 3"}, {"prompt": "2*2=", "completion": "*2=4 Answer: 4"}]
  weights = load(batch_size=1, path=file(tmp_path, rows), weighting=Weighting.SEQUENCE).batches.batch(0).weights
  assert weights.sum() == pytest.approx(2) and len(np.unique(weights)) == 3


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"too_long": "shorten"}, "demonstrations.too_long: 'shorten', expected one of"),
    ({"path": "absent.jsonl"}, "absent.jsonl: no such file"),
    ({"per_difficulty": 0}, "per_difficulty 0"),
    ({"too_long": "error", "row_length": 4}, "demonstrations"),
    ({"held_out": 1.0}, "demonstrations.held_out: 1.0, expected a share"),
    ({"held_out": 1e-9}, "demonstrations.held_out: 1e-09 leaves"),
    ({"limit": -1}, "demonstrations.limit: -1"),
    ({"template": "Q"}, "demonstrations.template: 'Q' has no '{prompt}'"),
  ],
)
def test_errors(changes, message):
  with pytest.raises(InputError) as error:
    load(**changes)
  assert message in str(error.value) and "\n" not in str(error.value)


def test_demonstrations_longer_than_the_context_are_refused(tmp_path):
  path = file(tmp_path, [{"prompt": "1+2=", "completion": " Answer: 3"}, {"prompt": "2*2=", "completion": "4"}])
  sizes = dict(vocab_size=40, num_layers=1, embed_dim=8, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=4)
  longest = len(TOKENIZER.encode("1+2= Answer: 3<eos>"))
  data = load(batch_size=1, path=path)  # rows of 64 tokens, which hold several examples
  data.check_context(TransformerConfig(**sizes, max_position_embeddings=longest))
  with pytest.raises(InputError, match=f"^demonstrations, the longest: {longest} tokens are more than"):
    data.check_context(TransformerConfig(**sizes, max_position_embeddings=longest - 1))


def test_the_corpus_of_the_assistant_world():
  section = assistant_base.get_config().demonstrations
  section.corpus.documents = 5
  rows, digest = read_demonstrations(parse(DemonstrationSettings, section, "demonstrations"))
  assert len(rows) == 5 and rows[0].source == "corpus, row 0" and rows[0].columns["prompt"] == ""
  section.seed = 1
  assert read_demonstrations(parse(DemonstrationSettings, section, "demonstrations"))[1] != digest
