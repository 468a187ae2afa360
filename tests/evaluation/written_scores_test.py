import json
import math

import numpy as np
import pytest

from configs import tiny_generative_reward
from posttrain_jax.evaluation import written_scores
from posttrain_jax.evaluation.pair_judges import make_judge
from posttrain_jax.evaluation.written_scores import WrittenScores, writes_scores
from posttrain_jax.types import InputError
from tests.assembly.tiny_judge import TOKENIZER, Scripted, expected_alone
from tests.recipes.saved_model import save_model

SIZES = dict(num_layers=2, embed_dim=16, mlp_dim=32, num_heads=2, num_kv_heads=1, head_dim=8)
ASKED = [("1+1=", " Answer: 2"), ("1+1=", " Answer: 3"), ("1+2=", " Answer: 4")]


@pytest.fixture
def judge(tmp_path):
  """Returns the workdir of a generative reward model with random parameters, those of `tiny_judge`."""
  save_model(tmp_path / "judge", 0, tokenizer=TOKENIZER, **SIZES)
  config = tiny_generative_reward.get_config()
  (tmp_path / "judge" / "config.json").write_text(json.dumps(config.to_dict()))
  return str(tmp_path / "judge")


def test_a_score_is_its_mean_under_the_probabilities_of_its_tokens(judge, monkeypatch):
  written = Scripted([["+1=2 Score: 1"], ["+1=2 Score: 0"], ["+2=3"]])
  monkeypatch.setattr(written_scores, "Engine", lambda model, *_, **__: written)
  found = WrittenScores(judge)(ASKED)
  expected = [expected_alone(f"1+1= Answer: {n} Wait, +1=2 Score: ", "01") for n in (2, 3)]
  np.testing.assert_allclose(found[:2], expected, rtol=1e-4)
  assert math.isnan(found[2])  # the judge came to no score
  assert TOKENIZER.decode(written.asked[0].tokens) == "1+1= Answer: 2 Wait, "


def test_an_answer_with_a_control_token_has_no_score(judge, monkeypatch):
  monkeypatch.setattr(written_scores, "Engine", lambda *_, **__: Scripted([["+1=2 Score: 1"]]))
  found = WrittenScores(judge)([("1+1=", " Answer: 2<eos>"), ASKED[0]])
  assert math.isnan(found[0]) and np.isfinite(found[1])


def test_the_judge_prefers_what_its_own_engine_scores_higher(judge):
  """Its parameters are random, so most judgements have no score; what has none is a tie."""
  assert writes_scores(judge)
  first, second = WrittenScores(judge)(ASKED[:2])
  expected = 0.5 if math.isnan(first + second) or first == second else float(first > second)
  pair = (ASKED[0][0], ASKED[0][1], ASKED[1][1])
  assert make_judge(judge, reference=None, question=None)([pair]) == [expected]
  with pytest.raises(InputError, match="is a reward model, expected no --judge_reference"):
    make_judge(judge, reference=judge, question=None)


def test_another_run_writes_no_scores(tmp_path):
  save_model(tmp_path / "policy", 0)
  assert not writes_scores(str(tmp_path / "policy"))
  (tmp_path / "policy" / "config.json").write_text('{"demonstrations": {"path": ""}}')
  assert not writes_scores(str(tmp_path / "policy"))
  assert not writes_scores("smollm2-135m-instruct")
