"""Tests that pairs of models are read and written in one way; `gains` and `comparison` have the rest."""

import json

import pytest

from posttrain_jax.recipes.measures import Measured
from posttrain_jax.recipes.model_pairs import read_pairs, write_pairs
from posttrain_jax.types import InputError

ANSWERS = {"base": {("seen", "a"): 1}, "sft": {("seen", "a"): 2}, "other": {("seen", "b"): 3}}


def test_a_model_of_several_pairs_is_read_once():
  read = []
  found = read_pairs(
    {"sft": ("base", "sft"), "again": ("base", "sft"), "same": ("base", "base")},
    lambda path: read.append(path) or ANSWERS[path],
  )
  assert read == ["base", "sft"]
  assert found == {name: (ANSWERS["base"], ANSWERS[other]) for name, other in zip(found, ("sft", "sft", "base"))}


def test_models_of_other_requests_are_no_pair():
  with pytest.raises(InputError, match=r"pairs\.two: the models have answered other requests"):
    read_pairs({"one": ("base", "sft"), "two": ("sft", "other")}, ANSWERS.__getitem__)


def test_what_is_found_is_kept_and_returned(tmp_path):
  found = {"sft": {"seen/facts": Measured(0.5, 0.25, 0.75)}}
  flat = write_pairs(tmp_path / "made", "found.json", "gains", found)
  assert flat == {"sft/seen/facts": 0.5, "sft/seen/facts/low": 0.25, "sft/seen/facts/high": 0.75}
  assert json.loads((tmp_path / "made" / "found.json").read_text()) == {"sft": {"seen/facts": [0.5, 0.25, 0.75]}}
  assert "gains" in (tmp_path / "made" / "report.html").read_text()
