import json

import pytest

from configs import tiny_forgetting
from posttrain_jax.assembly import plain_text
from posttrain_jax.assembly.model import Policy
from posttrain_jax.data import prompts
from posttrain_jax.data.demonstrations import SYMBOLS
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

TOKENIZER = tiny_tokenizer(SYMBOLS)
SIZES = dict(num_layers=2, embed_dim=8, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=4)
POLICY = Policy(TransformerConfig(vocab_size=TOKENIZER.vocab_size, **SIZES), TOKENIZER)


def section(**changes):
  plain = tiny_forgetting.get_config().plain
  plain.update({"per_difficulty": 2, **changes})
  return parse(plain_text.PlainTextSettings, plain, "plain")


def file(tmp_path, texts):
  path = tmp_path / "texts.jsonl"
  path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
  return section(path=str(path), field="text", row_length=8)


def test_the_crowd_writes_about_held_out_problems_and_only_its_answers_count():
  plain = section()
  rows, digest = plain_text.read_plain(plain)
  assert sorted(row.columns["difficulty"] for row in rows) == sorted([1, 2, 3, 4, 5, 6] * 2)
  assert digest == prompts.rows_digest([row.columns for row in rows])
  laid_out = plain_text.lay_out_plain(plain, rows, TOKENIZER, batch_size=4)
  answers = sum(len(TOKENIZER.encode(row.columns["completion"])) + 1 for row in rows)
  assert laid_out.num_learned == answers
  assert plain_text.read_plain(section(limit=3))[0] == rows[:3]


def test_every_token_of_a_files_text_counts_but_the_first_of_each(tmp_path):
  plain = file(tmp_path, ["1+2=3", "7*7*7*7*7*7*7*7*7*7*7*7="])
  rows, digest = plain_text.read_plain(plain)
  assert digest == prompts.file_digest(plain.path)
  laid_out = plain_text.lay_out_plain(plain, rows, TOKENIZER, batch_size=4)
  short = len(TOKENIZER.encode("1+2=3", add_special_tokens=True))
  assert short < 8 and laid_out.num_learned == (short - 1) + (8 - 1)  # the second is cut


@pytest.mark.parametrize("text", [None, "", 3])
def test_a_row_without_text_is_refused(tmp_path, text):
  with pytest.raises(InputError, match=r"texts.jsonl:2: text is .*, expected text"):
    plain_text.read_plain(file(tmp_path, ["1+2=", text]))


def test_a_negative_limit_is_refused():
  with pytest.raises(InputError, match=r"plain\.limit: -1"):
    plain_text.read_plain(section(limit=-1))
