"""Tests that a byte-order mark is read, and that other kinds of files are recognised."""

import gzip
import json

import pytest

from posttrain_jax.data import prompts
from posttrain_jax.types import InputError

ROWS = [{"prompt": "1+2=", "answer": "3"}, {"prompt": "4+5=", "answer": "9"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def write(tmp_path, content, name="rows.jsonl"):
  content = content if isinstance(content, bytes) else content.encode()
  (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
  return tmp_path / name


def message(path):
  with pytest.raises(InputError) as error:
    prompts.read_jsonl(path)
  assert "\n" not in str(error.value)
  return str(error.value).replace(str(path), "FILE")


def test_a_directory_is_refused(tmp_path):
  assert message(tmp_path) == "FILE: is a directory, expected a file"


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_a_byte_order_mark_is_read(tmp_path, name):
  assert [row.columns for row in prompts.read_jsonl(write(tmp_path, "\ufeff" + LINES, name))] == ROWS


@pytest.mark.parametrize("text", [json.dumps(ROWS), json.dumps(ROWS, indent=2), "\n\n[\n" + LINES])
def test_a_json_array_is_recognised(tmp_path, text):
  found = message(write(tmp_path, text))
  assert "the file seems to be one JSON array, expected JSONL, one JSON object a line" in found
  assert "`jq -c '.[]' rows.jsonl > rows.jsonl`" not in found and "jq -c '.[]' rows.jsonl > new.jsonl" in found


def test_an_object_over_several_lines_is_recognised(tmp_path):
  assert "one JSON object over several lines" in message(write(tmp_path, json.dumps(ROWS[0], indent=1)))


@pytest.mark.parametrize(("separator", "kind"), [(",", "csv"), ("\t", "table")])
def test_csv_is_recognised(tmp_path, separator, kind):
  text = separator.join(["prompt", "answer"]) + "\n" + separator.join(["1+2=", "3"]) + "\n"
  found = message(write(tmp_path, text, "mine.csv"))
  assert found.startswith("FILE:1: malformed JSON") and "CSV with the columns prompt, answer" in found
  assert f"pandas.read_{kind}('mine.csv').to_json('mine.jsonl'" in found


@pytest.mark.parametrize("text", [LINES + '{"prompt": ', LINES + "[1]", "word", '{"prompt": "a", '])
def test_one_bad_line_is_not_another_format(tmp_path, text):
  found = message(write(tmp_path, text))
  assert "seems" not in found and "several lines" not in found and found.startswith("FILE:")


def test_what_is_not_utf8_is_named_with_its_line(tmp_path):
  found = message(write(tmp_path, LINES.encode() + '{"prompt": "ä"}'.encode("latin-1")))
  assert found.startswith("FILE: cannot be read: line 3 is not UTF-8 (byte 0xe4), expected UTF-8") and "LATIN1" in found
  assert "-f UTF-16" in message(write(tmp_path, "\ufeff".encode("utf-16-le") + LINES.encode("utf-16-le")))


def test_other_formats_are_named(tmp_path):
  assert "found Parquet" in message(write(tmp_path, b"PAR1\x15\x00\xff\xff"))
  assert "found gzip, expected a name that ends in .gz" in message(write(tmp_path, gzip.compress(LINES.encode())))
