"""Tests attacks that a judge model rewards: it reads attack and answer, and the rule's verdict stands beside it."""

import dataclasses
import json

import numpy as np
import pytest

from configs.recipes import attacker_sections
from posttrain_jax.data.verdict_question import ENGLISH
from posttrain_jax.evaluation import second_opinion
from posttrain_jax.evaluation.compliance_judge import Opinions
from posttrain_jax.pipelines import grpo
from tests.pipelines.attack_run_test import MODEL, run, small, target  # noqa: F401
from tests.pipelines.small_offline import refused


@pytest.fixture
def judged(monkeypatch, target):  # noqa: F811
  """Returns the changes of a config that name a judge, and the list of what it was asked."""
  asked = []

  def judge(pairs):
    """Likes answers that begin with a digit, whatever the rule says."""
    asked.extend(pairs)
    return Opinions(np.array([answer[:1].isdigit() for _, answer in pairs], float), np.ones(len(pairs), bool))

  def opened(settings, question, *, seed):
    assert (settings.path, settings.longest, question) == (target, 400, ENGLISH)
    return judge

  monkeypatch.setattr(second_opinion, "open_judge", opened)
  section = attacker_sections.target_judge()
  section.update(path=target, question=dataclasses.asdict(ENGLISH))
  return {"target__judge": section}, asked
