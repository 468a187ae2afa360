"""Tests the stage of raw text."""

import dataclasses
import json

import pytest
from ml_collections import ConfigDict

from posttrain_jax.recipes import raw_corpus
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import SETTINGS


def config(**changes):
  found = ConfigDict(
    dict(world=dataclasses.asdict(SETTINGS), seed=0, documents=50, spoilt=dict(copy=0.1, leaked=0.1), exam=4)
  )
  found.update(changes)
  return found


def rows(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_raw_text_and_an_exam_of_held_out_sums(tmp_path):
  raw_corpus.check(config())
  found = raw_corpus.write_raw_corpus(config(), tmp_path)
  assert found == {"documents": 60, "clean": 50, "copy": 5, "leaked": 5, "exam": 4}
  exam = [row["question"] for row in rows(tmp_path / raw_corpus.EXAM)]
  assert len(exam) == 4 and all(len(text.split()) >= 18 for text in exam)
  leaked = [row["text"] for row in rows(tmp_path / raw_corpus.RAW) if row["found"] == "leaked"]
  assert all(any(text.endswith(question) for question in exam) for text in leaked)
  assert raw_corpus.forecast(config(), Forecast(0.5)).rows == {raw_corpus.RAW: 60, raw_corpus.EXAM: 4}


def test_an_unknown_kind_is_refused():
  with pytest.raises(InputError, match=r"spoilt.clean: unknown, expected some of copy, near_copy, signs"):
    raw_corpus.check(config(spoilt=dict(clean=1.0)))
