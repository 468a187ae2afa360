"""Tests pairs of two authors' answers."""

import json

import pytest

from posttrain_jax.recipes import answer_pairs
from posttrain_jax.types import InputError


def file(folder, name, **answers):
  rows = [{"prompt": prompt, "completion": answer, "author": name} for prompt, answer in answers.items()]
  path = folder / f"{name}.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def pairs(folder, chosen, rejected):
  config = answer_pairs.answers()
  config.update(chosen=chosen, rejected=rejected)
  found = answer_pairs.pair(config, folder)
  return found, [json.loads(line) for line in (folder / answer_pairs.ROWS).read_text().splitlines()]


def test_prompts_that_both_answer_make_pairs(tmp_path):
  careful, helpful = file(tmp_path, "careful", a="no", b="never", c="no"), file(tmp_path, "helpful", b="yes", a="ok")
  found, rows = pairs(tmp_path, careful, helpful)
  assert found == {"pairs": 2}
  assert rows == [
    {"prompt": "a", "author": "careful", "chosen": "no", "rejected": "ok"},
    {"prompt": "b", "author": "careful", "chosen": "never", "rejected": "yes"},
  ]


def test_nothing_in_common_is_refused(tmp_path):
  with pytest.raises(InputError, match=r"rejected: .*other.jsonl answers no prompt of .*own.jsonl"):
    pairs(tmp_path, file(tmp_path, "own", a="no"), file(tmp_path, "other", b="yes"))
  (tmp_path / "empty.jsonl").write_text('{"prompt": "a"}\n')
  with pytest.raises(InputError, match=r"empty.jsonl:1: completion is None, expected text"):
    pairs(tmp_path, str(tmp_path / "empty.jsonl"), file(tmp_path, "other", b="yes"))
