import json
import sys

import pytest

from posttrain_jax.data import prompts, sources
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.types import InputError
from tests.data.tiny_sums import TinySums


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  directory = tmp_path_factory.mktemp("tfds")
  TinySums(data_dir=directory, file_format="array_record").download_and_prepare()
  return directory


def test_rows_are_plain_python_values(data_dir):
  rows = sources.read_tfds("tfds:tiny_sums/test", data_dir=data_dir)
  by_question = {row.columns["question"]: row.columns for row in rows}
  assert by_question == {
    "8 + 1?": {"question": "8 + 1?", "answer": 9, "terms": [8, 1]},
    "9 ＋ 1?": {"question": "9 ＋ 1?", "answer": 10, "terms": [9, 1]},
  }
  assert {type(value) for columns in by_question.values() for value in columns.values()} == {str, int, list}
  assert rows[1].source == "tfds:tiny_sums/test, row 1"


def test_no_row_is_lost_and_slices_work(data_dir):
  rows = sources.read_tfds("tfds:tiny_sums/train", data_dir=data_dir)
  assert sorted(row.columns["answer"] for row in rows) == list(range(1, 9))
  half = sources.read_tfds("tfds:tiny_sums:1.0.0/train[:50%]", data_dir=data_dir)
  assert [row.columns for row in half] == [row.columns for row in rows[:4]]


def test_prompts_are_made_of_its_rows(data_dir):
  rows = sources.read_tfds("tfds:tiny_sums/train", data_dir=data_dir)
  made, _ = prompts.make_prompts(rows, tiny_tokenizer([*"0123456789 +?"]), max_length=8)
  assert made[0].row["answer"] == rows[0].columns["answer"] and len(made[0].tokens) == 6


def test_tensorflow_is_not_imported(data_dir):
  sources.read_tfds("tfds:tiny_sums/test", data_dir=data_dir)
  assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(
  "name, message",
  [
    ("tfds:tiny_sums", r"tfds:tiny_sums: expected 'tfds:NAME/SPLIT'"),
    ("tiny_sums/train", r"tiny_sums/train: expected"),
    ("tfds:tiny_sum/train", r"tfds:tiny_sum/train: TFDS knows no data set 'tiny_sum'"),
    ("tfds:tiny_sums/validation", r"split 'validation'.*there are (train, test|test, train)"),
    ("tfds:tiny_sums/train[:x]", r"split 'train\[:x\]'"),
  ],
)
def test_bad_names_are_refused_in_one_line(data_dir, name, message):
  with pytest.raises(InputError, match=message) as raised:
    sources.read_tfds(name, data_dir=data_dir)
  assert "\n" not in str(raised.value)


def test_unprepared_data_is_refused(tmp_path):
  with pytest.raises(InputError, match=r"found nothing in .*expected the data set prepared"):
    sources.read_tfds("tfds:tiny_sums/train", data_dir=tmp_path)


def test_several_files_are_read_one_after_the_other(tmp_path, data_dir):
  for name in ("liked.jsonl", "disliked.jsonl", "a,b.jsonl"):
    (tmp_path / name).write_text(json.dumps({"file": name}) + "\n")
  liked, disliked, comma = (str(tmp_path / name) for name in ("liked.jsonl", "disliked.jsonl", "a,b.jsonl"))
  both, digest = sources.read_rows(f"{liked},{disliked}")
  assert [row.columns["file"] for row in both] == ["liked.jsonl", "disliked.jsonl"]
  assert [row.source for row in both] == [f"{liked}:1", f"{disliked}:1"]
  assert len(digest) == 64 and digest != sources.read_rows(f"{disliked},{liked}")[1]
  assert [row.columns["file"] for row in sources.read_rows(comma)[0]] == ["a,b.jsonl"]  # a comma in a file's name
  with pytest.raises(InputError, match=r"no\.jsonl"):
    sources.read_rows(f"{liked},{tmp_path}/no.jsonl")
