"""Tests what a generative reward model is asked, and how its judgements become scores."""

import dataclasses
import math
from unittest import mock

import jax
import numpy as np
import pytest

from configs import tiny_generative_grpo
from posttrain_jax.assembly import generative_judge
from posttrain_jax.assembly.generative_judge import GenerativeJudge, GenerativeJudgeSettings
from posttrain_jax.assembly.model import Policy
from posttrain_jax.data.vocabularies import byte_tokenizer
from posttrain_jax.evaluation.generative_evaluation import GenerativeEvaluation, JudgedAnswers
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError, Prompt
from tests.assembly.tiny_judge import MODEL, TOKENIZER, Scripted, expected_alone, params
from tests.pipelines.made_groups import answer, group

ANSWERS_IN = byte_tokenizer()
SHORT = dataclasses.replace(MODEL, max_position_embeddings=100)  # tokens of question and judgement
MESH = make_mesh({}, jax.devices()[:1])


def settings(**changes) -> GenerativeJudgeSettings:
  section = tiny_generative_grpo.judge()
  section.path = "runs/judge"
  section.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
  return parse(GenerativeJudgeSettings, section, "judge")


def judge(judgements=None, engines=(), **changes) -> GenerativeJudge:
  found = GenerativeJudge(
    settings(slots=8, **changes),
    Policy(SHORT, TOKENIZER),
    lambda: (params(), 7),
    MESH,
    ANSWERS_IN,
    seed=0,
    engines=engines,
  )
  if judgements is not None:
    found._engine = Scripted(judgements)
  return found


def a_group(*texts, index=3, attempt=0, prompt="1+1="):
  made = group([answer(ANSWERS_IN.encode(text)) for text in texts], [0.0] * len(texts), row={"prompt": prompt})
  asked = dataclasses.replace(made.prompt, index=index, attempt=attempt)
  return dataclasses.replace(made, prompt=asked)


def test_each_answer_is_asked_about_with_an_index_of_its_own():
  scorer = judge([[" Score: 1"]] * 4, reading="sampled")
  scorer.score_groups([a_group(" Answer: 2", " Answer: 3"), a_group("1", "2", index=4, attempt=5, prompt="7+8=")])
  asked = scorer._engine.asked
  assert [TOKENIZER.decode(each.tokens) for each in asked] == [
    *("1+1= Answer: 2 Wait, ", "1+1= Answer: 3 Wait, ", "7+8=1 Wait, ", "7+8=2 Wait, ")
  ]
  assert [(each.index, each.attempt) for each in asked] == [(6, 0), (7, 0), (8, 5), (9, 5)]
  assert scorer._engine.loaded[1] == 7


def test_votes_are_averaged_and_abstentions_left_out():
  written = [["+1=2 Score: 3", "+1=2 Score: 0"], ["+1=2", "+1=2 Score: 2"], ["+1=2", " Score: 1 Score: 2"]]
  scorer = judge(written, reading="sampled", votes=2, high=3, sampling__temperature=1.0)
  (found,) = scorer.score_groups([a_group("1", "2", "3")])
  np.testing.assert_array_equal(found, np.array([1.5, 2, math.nan], np.float32))
  assert found.dtype == np.float32


def test_the_expected_score_is_that_of_the_evaluation_and_of_each_text_alone():
  texts, written = (" Answer: 2", " Answer: 3"), [["+1=2 Score: 1"], ["+1=2 Score: 0"]]
  (found,) = judge(written).score_groups([a_group(*texts)])
  alone = [expected_alone(f"1+1={text} Wait, +1=2 Score: ", "01") for text in texts]
  np.testing.assert_allclose(found, alone, rtol=1e-5)
  assert abs(alone[0] - alone[1]) > 1e-3
  prompts = [Prompt(i, tuple(TOKENIZER.encode(f"1+1={text} Wait, ")), {}) for i, text in enumerate(texts)]
  evaluation = GenerativeEvaluation(
    MODEL,
    TOKENIZER,
    JudgedAnswers(prompts, np.array([1.0, 0.0]), ["a", "a"]),
    Scripted(written),
    Scripted(written),
    MESH,
    samples=1,
    low=0,
    high=1,
    mark="Score:",
  )
  metrics, _ = evaluation(params(), 0)
  assert metrics["eval/expected/pair_accuracy"] == float(found[0] > found[1])
  assert metrics["eval/expected/accuracy"] == np.mean([found[0] > 0.5, found[1] < 0.5])


def test_an_answer_that_cannot_be_asked_about_has_no_score():
  scorer = judge([[" Score: 1"]], reading="sampled", max_prompt_length=12)
  longer = "+8=5" * 8
  one, other = scorer.score_groups(
    [a_group("1", longer, "<eos>2", "€"), a_group(longer, "<pad>2", "€", longer, index=9)]
  )
  np.testing.assert_array_equal(one, [1, math.nan, math.nan, math.nan])
  assert np.isnan(other).all() and len(scorer._engine.asked) == 1
  (nothing,) = scorer.score_groups([a_group("€")])
  assert np.isnan(nothing).all()


def test_the_same_judgements_whatever_else_is_judged():
  # Real draws: an index and an attempt decide, not the company or the call.
  scorer = judge(reading="sampled", votes=3, sampling__temperature=1.0, max_new_tokens=4)
  drawn = []
  with mock.patch.object(
    scorer._reader, "sampled", side_effect=lambda judged: drawn.append(judged) or np.zeros((len(judged), 3))
  ):
    one, other = a_group("1", "2"), a_group("3", "4", index=5)
    scorer.score_groups([one, other])
    scorer.score_groups([dataclasses.replace(other, prompt=dataclasses.replace(other.prompt, attempt=1))])
    scorer.score_groups([other])
  tokens = [[[vote.tokens.tolist() for vote in each.answers] for each in judged] for judged in drawn]
  assert tokens[0][2:] == tokens[2] != tokens[1]
  assert len({str(vote) for each in tokens[2] for vote in each}) > 2


def test_idle_engines_give_up_their_caches():
  idle, running = mock.Mock(busy=False), mock.Mock(busy=True)
  judge([[" Score: 1"]], engines=[idle, running], reading="sampled").score_groups([a_group("1")])
  idle.release.assert_called_once()
  running.release.assert_not_called()


def test_the_policy_judges_with_what_its_answers_are_drawn_with():
  unloaded, loaded = mock.Mock(params=None), mock.Mock(params="current", version=4)
  current = generative_judge.current_params([unloaded, loaded])
  assert current() == ("current", 4)
  loaded.params, loaded.version = "newer", 5
  assert current() == ("newer", 5)


def test_prompts_are_checked_with_the_longest_answer():
  scorer = judge(max_prompt_length=12)
  short = Prompt(0, (2,), {"prompt": "1+1="}, source="p.jsonl:1")
  scorer.check_prompts([short], answer_length=5)
  message = r"^judge\.max_prompt_length: 12, less 9 for an answer; p.jsonl:1: .* tokens, the limit is 3"
  with pytest.raises(InputError, match=message):
    scorer.check_prompts([short], answer_length=9)
  with pytest.raises(InputError, match=r"p\.jsonl:2"):
    scorer.check_prompts([dataclasses.replace(short, row={"prompt": "é"}, source="p.jsonl:2")], answer_length=1)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"path": ""}, "judge.path: '' and judge.self_rewarding: False"),
    ({"self_rewarding": True}, "expected either a model or True"),
    ({"low": 1}, "judge.low: 1, expected below judge.high, 1"),
    ({"votes": 2}, "judge.votes: 2 at temperature 0"),
    ({"votes": 0}, "judge.votes: 0, expected at least 1"),
    ({"reading": "guessed"}, "judge.reading: 'guessed', expected one of expected, sampled"),
    ({"wording__template": "{prompt}"}, "wording.template: '{prompt}' has no '{answer}'"),
    ({"wording__mark": " "}, "wording.mark: ' '"),
    ({"template": "?"}, "has no '{prompt}'"),
  ],
)
def test_settings_that_contradict_each_other(changes, message):
  with pytest.raises(InputError) as error:
    settings(**changes)
  assert message in str(error.value)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"high": 12}, "judge: judgements: scores from 0 to 12 are not one token each"),
    ({"wording__mark": "score :"}, "judge: tokenizer: "),
    ({"max_new_tokens": 53}, "judge: prompts of up to 48 and answers of 53 tokens"),
  ],
)
def test_what_the_judge_cannot_do(changes, message):
  with pytest.raises(InputError) as error:
    judge(**changes)
  assert str(error.value).startswith(message)


def test_one_judge_only():
  generative_judge.refuse_two_judges("", settings())
  generative_judge.refuse_two_judges("runs/rm", None)
  with pytest.raises(InputError, match="judge: given beside reward_model, 'runs/rm'"):
    generative_judge.refuse_two_judges("runs/rm", settings())
