"""Tests that each kind of judge prefers what its model says."""

import numpy as np
import pytest

from posttrain_jax.assembly.model import open_policy
from posttrain_jax.data.assistant_world.language import vocabulary
from posttrain_jax.data.chat import encode_prompt
from posttrain_jax.data.vocabularies import byte_tokenizer, word_tokenizer
from posttrain_jax.evaluation.pair_judges import AskedJudge, by_score, make_judge
from posttrain_jax.evaluation.score import row_logprobs
from posttrain_jax.rewards.model_reward import ModelReward
from posttrain_jax.types import InputError
from tests.recipes.saved_model import save_model

PAIRS = [("a fox is safe .", "so it is .", "the answer is good ."), ("is a fox safe ?", "safe", "hill")]
QUESTION = "{prompt}|{first}|{second}|"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  folder = tmp_path_factory.mktemp("judges")
  words = word_tokenizer(vocabulary())
  for name, seed, more in (("policy", 0, {}), ("reference", 1, {}), ("reward", 2, {"scalar_head": True})):
    save_model(folder / name, seed, tokenizer=words, **more)
  save_model(folder / "bytes", 3, tokenizer=byte_tokenizer())
  return {path.name: str(path) for path in folder.iterdir()}


def rows_of(policy):
  """Encodes the answers of PAIRS by hand: prompt, answer, end token."""
  encode, end = policy.tokenizer.encode, policy.tokenizer.eos_id
  return [[(policy.tokenizer.encode_prompt(asked), encode(text), [end]) for text in texts] for asked, *texts in PAIRS]


def test_a_reward_model_prefers_the_higher_score(models):
  judge, policy = make_judge(models["reward"], reference=None, question=None), open_policy(models["reward"])
  reward = ModelReward(policy.model, policy.params)
  scores = np.array([reward.score([a + b + c for a, b, c in both]) for both in rows_of(policy)])
  assert judge(PAIRS) == (scores[:, 0] > scores[:, 1]).astype(float).tolist()
  swapped = [(asked, second, first) for asked, first, second in PAIRS]
  assert judge(swapped) == (scores[:, 0] < scores[:, 1]).astype(float).tolist()
  assert judge([("a fox is safe .", "hill", "hill")]) == [0.5]


def test_an_empty_answer_loses_to_any_other(models):
  judge = make_judge(models["reward"], reference=None, question=None)
  assert judge([("is a fox safe ?", "", "hill"), ("is a fox safe ?", "hill", ""), ("is a fox safe ?", "", "")]) == [
    *(0.0, 1.0, 0.5)
  ]


def test_a_policy_prefers_what_has_become_likelier(models):
  judge = make_judge(models["policy"], reference=models["reference"], question=None)
  policy, reference = (open_policy(models[name]) for name in ("policy", "reference"))

  def answer_logprob(each, prompt, answer):
    return row_logprobs(each.model, each.params, [prompt + answer])[0][len(prompt) - 1 :].sum()

  gains = [
    [answer_logprob(policy, a, b) - answer_logprob(reference, a, b) for a, b, _ in both] for both in rows_of(policy)
  ]
  assert judge(PAIRS) == [float(first > second) for first, second in gains]
  same = make_judge(models["policy"], reference=models["policy"], question=None)
  assert same(PAIRS) == [0.5, 0.5]


def test_a_language_model_is_asked_for_a_or_b(models):
  judge, policy = AskedJudge(models["bytes"], QUESTION), open_policy(models["bytes"])
  tokens = encode_prompt([{"role": "user", "content": "q|x|y|"}], policy.tokenizer)
  both = [row_logprobs(policy.model, policy.params, [tokens + policy.tokenizer.encode(each)])[0] for each in "AB"]
  first, second = (each[len(tokens) - 1 :].sum() for each in both)
  (found,) = judge([("q", "x", "y")])
  assert found == pytest.approx(1 / (1 + np.exp(second - first)), abs=1e-4) and found != 0.5


def test_an_answer_cannot_put_fields_into_the_question():
  judge = object.__new__(AskedJudge)
  judge._question = QUESTION
  assert judge._text("q", "{second}", "y") == "q|{second}|y|"
  chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
  assert judge._text(chat, "x", "y") == "system: s\n\nuser: u|x|y|"


def test_an_answer_with_a_control_token_is_a_tie(models):
  policy = open_policy(models["bytes"])
  end = policy.tokenizer.decode([policy.tokenizer.eos_id])
  assert policy.tokenizer.encode(end) == [policy.tokenizer.eos_id]
  judge = AskedJudge(models["bytes"], QUESTION)
  assert judge([("q", f"x{end}", "y")]) == [0.5]


def test_an_answer_is_scored_once():
  asked = []

  def score(rows):
    asked.extend(rows)
    return [len(text) for _, text in rows]

  judge = by_score(score)
  assert judge([("q", "a", "bb"), ("q", "bb", "a"), ("r", "a", "a")]) == [0.0, 1.0, 0.5]
  assert judge([("q", "a", "ccc")]) == [0.0]
  assert asked == [("q", "a"), ("q", "bb"), ("r", "a"), ("q", "ccc")]


def test_without_a_score_there_is_no_preference():
  scores = {"a": 1.0, "b": float("nan"), "": -np.inf}
  judge = by_score(lambda rows: [scores[text] for _, text in rows])
  assert judge([("q", "a", "b"), ("q", "b", "a"), ("q", "b", "b"), ("q", "a", ""), ("q", "", "b")]) == [
    *(0.5, 0.5, 0.5, 1.0, 0.5)
  ]


def test_what_does_not_fit_a_kind_is_refused(models):
  for given, message in (
    ((models["reward"], models["policy"], None), "is a reward model, expected no --judge_reference"),
    ((models["reward"], None, QUESTION), "reads one answer at a time, expected no question"),
    ((models["policy"], models["reference"], QUESTION), "reads one answer at a time, expected no question"),
    ((models["policy"], models["reward"], None), "expected a language model"),
    ((models["policy"], models["bytes"], None), "another tokeniser"),
    ((models["policy"], None, "{prompt} {first}"), "--judge_question: has no '{second}'"),
    (("no_such_model", None, None), "no_such_model"),
  ):
    with pytest.raises(InputError, match=message):
      make_judge(given[0], reference=given[1], question=given[2])


def test_a_prompt_that_the_judge_cannot_read_is_named(models):
  judge = make_judge(models["reward"], reference=None, question=None)
  with pytest.raises(InputError, match="--judge: cannot read 'zebra' with its answer"):
    judge([("zebra", "hill", "hill")])
