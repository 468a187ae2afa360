import gzip
import json

import pytest

from configs import tiny_sft
from posttrain_jax.assembly.prompts import PromptSettings, load_prompts
from posttrain_jax.data import prompts, sources
from posttrain_jax.data.demonstrations import SYMBOLS
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

TOKENIZER = tiny_tokenizer(SYMBOLS)
LETTERS = tiny_tokenizer("Whatis 0123456789*+?")
ROWS = [{"prompt": "1+2=", "answer": "3"}, {"prompt": "4+5-2=", "answer": 7}, {"prompt": "2*2=", "answer": "4"}]


def load(tokenizer=TOKENIZER, *, longest=8, split="train", **changes):
  section = tiny_sft.task(split, 3)
  section.update(changes)
  settings = parse(PromptSettings, section, "prompts")
  return load_prompts(settings, tokenizer, max_prompt_length=longest, where="prompts")


def file(tmp_path, rows=ROWS, name="rows.jsonl"):
  path = tmp_path / name
  text = "".join(json.dumps(row) + "\n" for row in rows)
  path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
  return str(path)


def test_chains():
  found, digests = load()
  assert len(found) == 18 and {prompt.row["difficulty"] for prompt in found} == set(range(1, 7))
  assert [TOKENIZER.decode(prompt.tokens) for prompt in found] == [prompt.row["prompt"] for prompt in found]
  assert digests == load()[1] and digests != load(seed=1)[1] and list(digests) == ["prompts"]
  assert not {p.tokens for p in found} & {p.tokens for p in load(split="held_out")[0]}


def test_chains_of_other_lengths():
  found, _ = load(longest=18, difficulties=(2, 16))
  assert {prompt.row["difficulty"] for prompt in found} == {2, 16} and len(found) == 6


def test_facts():
  found, _ = load(LETTERS, longest=20, task="facts")
  texts = [prompt.row["prompt"] for prompt in found]
  assert 100 < len(texts) < 200 and all(text.startswith("What is ") for text in texts)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_files(tmp_path, name):
  path = file(tmp_path, name=name)
  found, digests = load(path=path)
  assert [prompt.row["answer"] for prompt in found] == ["3", 7, "4"]
  assert digests == {"prompts": prompts.file_digest(path)}


def test_tfds(monkeypatch):
  asked = []

  def read(name):
    asked.append(name)
    return [prompts.Row(row, f"{name}, row {i}") for i, row in enumerate(ROWS)]

  monkeypatch.setattr(sources, "read_tfds", read)
  found, digests = load(path="tfds:sums/train")
  assert asked == ["tfds:sums/train"] and len(found) == 3
  assert digests == {"prompts": prompts.rows_digest(ROWS)}
  monkeypatch.setattr(sources, "read_tfds", lambda name: [prompts.Row({"answer": "3"}, f"{name}, row 0")])
  with pytest.raises(InputError, match="tfds:sums/train, row 0: no prompt"):
    load(path="tfds:sums/train")


def test_limit_and_template(tmp_path):
  path = file(tmp_path)
  assert len(load(path=path, limit=2)[0]) == 2
  (first, *_) = load(path=path, template="{prompt} Answer: ")[0]
  assert TOKENIZER.decode(first.tokens) == "1+2= Answer: "
  with pytest.raises(InputError, match=r"prompts\.limit: -1, expected at least 0"):
    load(path=path, limit=-1)


def test_prompts_over_the_limit(tmp_path):
  path = file(tmp_path)
  with pytest.raises(InputError, match=r"rows\.jsonl:2: prompt of 4 tokens, the limit is 3"):
    load(path=path, longest=3)
  found, _ = load(path=path, longest=3, over_limit="drop")
  assert [prompt.index for prompt in found] == [0, 2]
  with pytest.raises(InputError, match="all 3 prompts are over the limit"):
    load(path=path, longest=1, over_limit="drop")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"task": "chain"}, "prompts.task: 'chain', expected one of chains, facts"),
    ({"split": "test"}, "prompts.split: 'test', expected one of train, sft_only, held_out"),
    ({"over_limit": "cut"}, "prompts.over_limit: 'cut', expected one of error, drop"),
    ({"template": "Q:"}, "prompts.template: 'Q:' has no '{prompt}'"),
    ({"system": "Be brief."}, "a system message needs a chat"),
    ({"path": "absent.jsonl"}, "absent.jsonl: no such file"),
    ({"path": "tfds:sums"}, "tfds:sums: expected 'tfds:NAME/SPLIT'"),
    ({"per_difficulty": 0}, "per_difficulty 0"),
  ],
)
def test_errors(changes, message):
  with pytest.raises(InputError) as error:
    load(**changes)
  assert message in str(error.value) and "\n" not in str(error.value)


def test_rows_without_an_answer_are_read(tmp_path):
  """Whether they need one depends on who judges: `assembly.references`."""
  rows = [{"prompt": "1+2="}, {"prompt": "1+2=", "answer": None}, {"prompt": "1+2=", "answer": ["a", "list"]}]
  found, _ = load(path=file(tmp_path, rows))
  assert [prompt.row.get("answer") for prompt in found] == [None, None, ["a", "list"]]
  assert [prompt.source for prompt in found] == [f"{tmp_path}/rows.jsonl:{line}" for line in (1, 2, 3)]
