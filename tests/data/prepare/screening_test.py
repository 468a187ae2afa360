import json

import numpy as np
import pytest

from posttrain_jax.data.prepare.documents import InputSettings, RawDocument, TextPiece, Unreadable
from posttrain_jax.data.prepare.quality import LengthRule
from posttrain_jax.data.prepare.screening import Screening, chosen, sample
from posttrain_jax.data.prepare.signatures import NearSettings
from posttrain_jax.data.prepare.toxicity import ToxicityRule

RULES = {
  "length": LengthRule(lowest=2, highest=5),
  "toxicity": ToxicityRule(words=("vile",), path="", share=0.0),
}
TEXTS = ["good words", "vile", "a vile word", "much too long to be a text", "good  words\n", "three good wörds"]


def screening(*, rules=RULES, threshold=0.8, unreadable=Unreadable.DROP, samples=5):
  used = InputSettings(paths=("x",), field="text", separator="", longest=1000, unreadable=unreadable)
  return Screening(used, rules, NearSettings(threshold=threshold, words=2, permutations=16, bands=4), 0, samples)


def block(*, texts=TEXTS, broken=("{", "[]")):
  rows = [*(json.dumps({"text": text}) for text in texts), *broken]
  return [TextPiece(0, True, 1, "\n".join(rows).encode(), True), TextPiece(1, False, 1, b"some plain text", True)]


def texts_of(found):
  ends = np.cumsum(found.sizes)
  return [found.texts[end - size : end].tobytes().decode() for end, size in zip(ends, found.sizes)]


def test_what_the_rules_leave():
  found = screening()(block())
  assert texts_of(found) == ["good words", "good  words\n", "three good wörds", "some plain text"]
  assert found.files.tolist() == [0, 0, 0, 1]
  assert found.lines.tolist() == [1, 5, 6, 1]
  same = (found.exact[:, None] == found.exact[None]).all(-1)
  assert same.tolist() == np.eye(4, dtype=bool).tolist()  # spaces within a text count
  assert found.signatures.shape == (4, 16) and found.bands.shape == (4, 4)
  assert (found.signatures[0] == found.signatures[1]).all()


def test_a_document_counts_for_the_first_step_that_drops_it():
  found = screening()(block())
  assert {name: (each["documents"], each["alone"]) for name, each in found.counts.items() if name != "read"} == {
    "unreadable": (2, 2),
    "length": (2, 2),  # "vile" has one word
    "toxicity": (1, 2),
  }
  assert found.counts["read"]["documents"] == 9
  dropped = sum(each["bytes"] for name, each in found.counts.items() if name != "read")
  assert found.counts["read"]["bytes"] == dropped + found.sizes.sum()
  assert found.counts["toxicity"]["bytes"] == len("a vile word")
  assert found.samples["toxicity"] == [
    {"file": 0, "line": 3, "reason": "33.3% listed words, such as 'vile'", "text": "a vile word"}
  ]


def test_spaces_around_a_text_do_not_make_it_another():
  found = screening()(block(texts=["some text", " some text\n"]))
  assert (found.exact[0] == found.exact[1]).all()


@pytest.mark.parametrize("threshold", [0.0, 0.8])
def test_a_block_of_which_nothing_is_left(threshold):
  for texts, broken in ((["long " * 10], ()), ([], ["{"]), ([], [])):
    found = screening(threshold=threshold, rules={"length": LengthRule(lowest=9, highest=9)})(
      block(texts=texts, broken=broken)
    )
    assert len(found.sizes) == len(found.exact) == found.bands.shape[1] == len(found.signatures) == 0
    assert found.bands.shape[0] == (4 if threshold else 0)


def test_without_near_duplicates_there_are_no_signatures():
  found = screening(threshold=0.0)(block())
  assert found.signatures.shape == (4, 0) and found.bands.shape == (0, 4)


def test_the_first_unreadable_document_is_known_if_it_is_an_error():
  found = screening(unreadable=Unreadable.ERROR, samples=0)(block())
  assert [each["line"] for each in found.samples["unreadable"]] == [7]


def test_samples_do_not_depend_on_how_documents_are_grouped():
  samples = [sample(RawDocument(i % 3, i, f"text {i}", ""), "why") for i in range(50)]
  together = chosen(samples, 6)
  parts = [chosen(samples[i : i + 7], 6) for i in range(0, 50, 7)]
  assert chosen([each for part in parts for each in part], 6) == together == chosen(samples[::-1], 6)
  assert [each["line"] for each in together] != sorted(each["line"] for each in together)[:6]


def test_a_sample_is_text_that_can_be_written():
  assert sample(RawDocument(0, 1, "a\ud800" + "b" * 2000, "x"), "x")["text"].encode().startswith(b"a?bb")
