import numpy as np
import pytest

from posttrain_jax.data.prepare import summary
from posttrain_jax.data.prepare.exact import KEPT
from posttrain_jax.data.prepare.near import SignatureFile
from posttrain_jax.data.prepare.quality import LengthRule
from tests.data.prepare.small_blocks import NEAR, written

TEXTS = ["one", "one two", "a b c d", "a b c d", "three", "a b c d e", "", "x y"]
NAMES = ["raw/a.jsonl"]


@pytest.fixture
def blocks(tmp_path):
  return written(tmp_path, TEXTS, sizes=[3, 0, 5], rules={"length": LengthRule(lowest=2, highest=9)})


def test_counts_of_all_blocks_are_added_up(blocks):
  read, steps = summary.screened_steps(blocks, ["length"], NAMES, 1)
  # A document without text is read as its line, {"text": ""}.
  assert read == {"documents": 8, "bytes": sum(map(len, TEXTS)) + len('{"text": ""}')}
  unreadable, length = steps
  assert (unreadable["documents"], unreadable["bytes"]) == (1, 12)
  assert (length["name"], length["documents"], length["bytes"], length["alone"]) == ("length", 2, 8, 2)
  assert length["samples"] in (
    [{"source": "raw/a.jsonl:1", "reason": "1 words", "text": "one"}],
    [{"source": "raw/a.jsonl:5", "reason": "1 words", "text": "three"}],
  )


def test_duplicates_are_shown_with_what_they_repeat(blocks, tmp_path):
  # Kept by the rule: lines 2, 3, 4, 6 and 8; lines 3 and 4 are equal.
  exact = np.array([KEPT, KEPT, 1, KEPT, KEPT])
  step = summary.duplicate_step(blocks, summary.EXACT, exact, NAMES, 5)
  assert step == {
    "name": "exact",
    "documents": 1,
    "bytes": 7,
    "samples": [{"source": "raw/a.jsonl:4", "reason": "raw/a.jsonl:3", "text": "a b c d"}],
  }
  with SignatureFile(tmp_path / "signatures", blocks, NEAR.permutations) as signatures:
    near = np.array([KEPT, KEPT, KEPT, 2, KEPT])
    step = summary.duplicate_step(blocks, summary.NEAR, near, NAMES, 5, signatures)
  (sample,) = step["samples"]
  assert sample["source"] == "raw/a.jsonl:6" and sample["reason"].endswith("to raw/a.jsonl:4")
  similarity = float(sample["reason"].split()[1])
  assert abs(similarity - 2 / 3) < 0.17  # of two and three trigrams, two are shared; four standard errors


def test_kept_documents_of_each_block(blocks):
  earlier = np.array([KEPT, KEPT, 1, KEPT, 0])
  assert summary.kept_of_blocks(blocks, earlier) == [(2, 2, 14), (0, 0, 0), (3, 1, 9)]
