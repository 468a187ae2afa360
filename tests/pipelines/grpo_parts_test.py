"""Tests the parts of a small run before anything is compiled."""

import contextlib

import pytest

from configs import tiny_dapo
from posttrain_jax.pipelines.grpo_parts import assemble
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.runs.settings import parse
from posttrain_jax.runs.workdir import read_json
from posttrain_jax.types import InputError
from tests.pipelines.small_offline import small

SMALL = {"rollout.slots": 16, "rewards.workers": 0, "prompts.per_difficulty": 2}


def settings(**changes):
  config = small(tiny_dapo, **SMALL, **{"eval.every": 0}, **changes)
  return parse(GRPOSettings, config)


@contextlib.contextmanager
def assembled(found, path):
  with contextlib.ExitStack() as stack:
    yield assemble(found, str(path), stack)


def test_what_nothing_needs_is_not_made(tmp_path):
  found = settings()
  with assembled(found, tmp_path / "run") as parts:
    assert parts.logprobs.reference is None and not parts.logprobs.old and parts.logprobs.teacher is None
    assert parts.greedy_rewards is None and parts.kl_to_start is None
    assert (parts.shape.groups, parts.shape.group_size) == (16, 8)
    assert parts.shape.prompt_width == parts.engine.sizes.max_prompt_length <= 8


def test_what_was_read_is_named_by_its_field(tmp_path):
  with assembled(settings(), tmp_path / "run"):
    digests = read_json(tmp_path / "run")["digests"]
  assert set(digests) == {"tokenizer", "prompts"}


def test_a_bad_field_leaves_no_directory(tmp_path):
  bad = settings(**{"teacher.path": "somewhere"})
  with pytest.raises(InputError, match=r"^teacher\.path: 'somewhere', expected none"), assembled(bad, tmp_path / "run"):
    pass
  assert not (tmp_path / "run").exists()
