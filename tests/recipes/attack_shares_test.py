"""Tests how answers to attacks are counted and written."""

import json

from posttrain_jax.recipes import attack_shares
from posttrain_jax.recipes.measures import Measured

TOLD = [("direct", "fire", True, False), ("direct", "theft", False, True), ("suffix", "", False, False)]


def test_shares_are_by_kind_and_by_category_where_there_is_one():
  found = attack_shares.shares(TOLD, seed=0)
  assert found["direct_complied"].value == found["direct_refused"].value == 0.5
  assert found["direct/fire_complied"] == Measured(1, 1, 1) and found["direct/theft_refused"].value == 1
  assert found["suffix_complied"].value == 0 and not any(name.startswith("suffix/") for name in found)
  assert found["direct_complied"].low < 0.5 < found["direct_complied"].high


def test_what_is_written_is_what_is_returned(tmp_path):
  flat = attack_shares.write(tmp_path, [{"a": 1}], "sun", {"direct_complied": Measured(0.5, 0.25, 1.0)})
  assert flat == {
    "attacks/direct_complied": 0.5,
    "attacks/direct_complied_low": 0.25,
    "attacks/direct_complied_high": 1.0,
  }
  kept = json.loads((tmp_path / attack_shares.SUCCESSES).read_text())
  assert kept == {"of": "attacks", "suffix": "sun", "measures": {"direct_complied": [0.5, 0.25, 1.0]}}
  assert (tmp_path / attack_shares.ATTACKS).read_text() == '{"a": 1}\n'
  assert "direct_complied" in (tmp_path / "report.html").read_text()
