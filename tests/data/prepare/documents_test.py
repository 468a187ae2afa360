import json
import re

import pytest

from posttrain_jax.data.prepare.documents import InputSettings, TextPiece, Unreadable, documents
from posttrain_jax.types import InputError


def settings(**changes):
  usual = dict(paths=("x",), field="text", separator="", longest=1000, unreadable=Unreadable.DROP)
  return InputSettings(**usual | changes)


def read(content, *, rows=True, line=1, is_whole=True, **changes):
  return list(documents(TextPiece(0, rows, line, content, is_whole), settings(**changes)))


def test_rows_of_jsonl():
  lines = [json.dumps({"text": "one\u2028two", "id": 1}), "", json.dumps({"text": "three"})]
  found = read("\n".join(lines).encode(), line=7)
  assert [(each.line, each.text, each.problem) for each in found] == [(7, "one\u2028two", ""), (9, "three", "")]


@pytest.mark.parametrize(
  ("line", "problem"),
  [
    (b'{"text": "a', "malformed JSON: Unterminated string"),
    (b"[1]", "found a JSON list, expected an object"),
    (b'{"other": "a", "id": 1}', "found the fields other, id, expected text in the field 'text'"),
    (b'{"text": 3}', "found int, expected text in the field 'text'"),
    (b'{"text": " "}', "the field 'text' has no text"),
    (b'{"text": "\xff"}', r"is not UTF-8 \(byte 0xff\)"),
    (b'{"text": "a\\ud800"}', "half a character"),
    (b'{"text": "%s"}' % (b"a" * 2000), r"is longer than 1000 bytes \(input.longest\)"),
    (b"[" * 100_000, "longer"),
  ],
)
def test_a_row_that_cannot_be_read(line, problem):
  good, bad, other = read(b'{"text": "a"}\n' + line + b'\n{"text": "b"}')
  assert (good.text, good.problem, other.text, other.line) == ("a", "", "b", 3)
  assert bad.line == 2
  assert re.search(problem, bad.problem)


def test_deep_json_is_no_crash():
  (found,) = read(b"[" * 100_000, longest=200_000)
  assert found.problem.startswith("malformed JSON")


def test_plain_text_is_one_document():
  (found,) = read("\n\nä\nb".encode(), rows=False, line=5)
  assert (found.line, found.text) == (7, "\n\nä\nb")


def test_plain_text_is_cut_at_a_separator():
  found = read(b"a\nb\n\n\n\nc\n===\n===\nd", rows=False, separator="===\n")
  assert [(each.line, each.text) for each in found] == [(1, "a\nb\n\n\n\nc"), (9, "d")]
  found = read(b"a\nb\n\n\n\n\nc", rows=False, separator="\n\n")
  assert [(each.line, each.text) for each in found] == [(1, "a\nb"), (7, "c")]


def test_a_document_over_the_limit_that_was_not_read_whole():
  (found,) = read(b'{"text": "aaa\nb', is_whole=False)
  assert "longer than 1000 bytes" in found.problem and found.text.startswith('{"text')


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(paths=()), "input.paths: none"),
    (dict(field=""), "input.field: ''"),
    (dict(longest=0), "input.longest: 0, expected 1 to"),
  ],
)
def test_settings_that_are_refused(changes, message):
  with pytest.raises(InputError, match=message):
    settings(**changes)
