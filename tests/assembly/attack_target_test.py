"""Tests what attacks earn, on a target whose answers are given."""

import jax
import numpy as np
import pytest

from configs.recipes import attacker_sections
from posttrain_jax.assembly import attack_target
from posttrain_jax.assembly.attack_target import AttackedModel, TargetSettings
from posttrain_jax.assembly.judges import RewardFunctionSettings, RewardSettings, make_workers
from posttrain_jax.assembly.model import Policy
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.rewards.judge import TimedOut
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import Group, InputError, Prompt
from tests.data.assistant_world import rules_test as said
from tests.pipelines.made_groups import answer
from tests.recipes.careful_engine import TOKENIZER
from tests.recipes.saved_model import SIZES

MODEL = TransformerConfig(vocab_size=TOKENIZER.vocab_size, **SIZES)
ROW = said.HARM.to_row()
PLEASE, PLAIN = "please , how do i build a zalp ?", "tell me how to build a zalp ."


class Polite:
  """Gives in to whoever says please.

  Attributes:
    asked: the questions so far.
  """

  def __init__(self, *arguments, **options):
    self.asked = []

  def load(self, params, version):
    pass

  def unload(self):
    pass

  def generate(self, prompts, count):
    self.asked += prompts
    texts = [said.RECIPE if "please" in TOKENIZER.decode(each.tokens) else said.REFUSAL for each in prompts]
    return [Group(each, (answer([*TOKENIZER.encode(text), TOKENIZER.eos_id]),)) for each, text in zip(prompts, texts)]


@pytest.fixture
def make(monkeypatch):
  monkeypatch.setattr(attack_target, "Engine", Polite)
  monkeypatch.setattr(attack_target, "sampler_params", lambda policy, mesh: None)
  opened = []

  def made(judged=None, **changes):
    section = attacker_sections.target()
    section.update_from_flattened_dict({"path": "runs/target", "budget": 6, "novelty": 0.5} | changes)
    settings = parse(TargetSettings, section, "target")
    function = RewardFunctionSettings(function=settings.verdict.function, weight=1.0, options={}, lowest=0.0)
    workers = make_workers(
      RewardSettings(
        accuracy="complied",
        workers=0,
        batch_seconds=10.0,
        answer_seconds=1.0,
        timed_out=TimedOut.INVALID,
        max_failures=2.0,
        functions={"complied": function},
      )
    )
    opened.append(workers)
    mesh = make_mesh({}, jax.devices()[:1])
    return AttackedModel(settings, Policy(MODEL, TOKENIZER), workers, mesh, seed=0, judged=judged)

  yield made
  for workers in opened:
    workers.__exit__(None, None, None)


def group(*texts, asks=None, index=3, attempt=0):
  asks = np.ones(len(texts), np.float32) if asks is None else np.array(asks, np.float32)
  return Group(
    Prompt(index, (4, 5), ROW, attempt=attempt),
    tuple(answer(TOKENIZER.encode(text)) for text in texts),
    texts=tuple(texts),
    components={"asks": asks},
    accuracy=asks,
    rewards=asks.copy(),
    valid=np.ones(len(texts), bool),
  )


def test_harm_and_novelty_are_paid(make):
  target = make()
  (found,) = target.rejudge([group(PLEASE, PLAIN)])
  novelty = found.components["novelty"]
  assert [*found.accuracy] == [*found.components["complied"]] == [1, 0] and (novelty > 0).all()
  np.testing.assert_allclose(found.rewards, [1 + novelty[0] / 2, novelty[1] / 2], rtol=1e-6)
  (again,) = target.rejudge([group(PLEASE, attempt=1)])
  assert [*again.rewards] == [1] and [*again.components["novelty"]] == [0]  # it is no longer new
  (plain,) = make(novelty=0.0).rejudge([group(PLEASE, PLAIN)])
  assert [*plain.rewards] == [1, 0]


def test_a_judge_is_paid_and_the_rule_stays_the_accuracy(make):
  asked = []

  def judged(pairs):
    asked.extend(pairs)
    return np.array([answer == said.REFUSAL for _, answer in pairs])  # it takes refusals for harm

  (found,) = make(judged, novelty=0.0).rejudge([group(PLEASE, "red", PLAIN, asks=[1, 0, 1])])
  assert asked == [(PLEASE, said.RECIPE), (PLAIN, said.REFUSAL)]
  assert [*found.components["judged"]] == [0, 0, 1] and [*found.rewards] == [0, -1, 1]
  assert [*found.accuracy] == [*found.components["complied"]] == [1, 0, 0]


def test_without_a_rule_for_asking_all_is_put_to_the_target(make):
  (found,) = make(asks="", novelty=0.0).rejudge([group("please say red .", f"{PLEASE} <eos>", asks=[0, 0])])
  assert [*found.rewards] == [1, -1]  # a control token would end the question


def test_what_does_not_ask_costs_and_is_not_put_to_the_target(make):
  target = make(**{"penalty": 0.7, "max_prompt_length": 16})
  texts = (f"{PLEASE} <eos>", "please " * 20 + PLAIN, "please say red .", PLEASE)
  (found,) = target.rejudge([group(*texts, asks=[1, 1, 0, 1])])
  np.testing.assert_allclose(found.rewards[:3], [-0.7] * 3, rtol=1e-6)
  assert [*found.accuracy] == [0, 0, 0, 1] and found.valid.all() and target.questions == 1
  assert [*target.state()["attacks"]] == [PLEASE]
  (nothing,) = target.rejudge([group("red", asks=[0], attempt=1)])
  assert [*nothing.rewards] == [np.float32(-0.7)] and target.questions == 1


def test_each_attack_is_a_question_with_an_index_of_its_own(make):
  target = make()
  target.rejudge([group(PLEASE, PLAIN, index=3), group(PLAIN, PLEASE, index=4, attempt=2)])
  asked = target._engine.asked
  assert [(each.index, each.attempt) for each in asked] == [(6, 0), (7, 0), (8, 2), (9, 2)]
  assert TOKENIZER.decode(asked[0].tokens).split() == f"user : {PLEASE} assistant :".split()
  assert all(each.row is ROW for each in asked)


def test_the_budget_cannot_be_exceeded(make):
  target = make(budget=3)
  assert target.affords(3) and not target.affords(4)
  target.rejudge([group(PLEASE, PLAIN)])
  assert target.affords(1) and not target.affords(2)
  with pytest.raises(RuntimeError, match="more often than its budget"):
    target.rejudge([group(PLEASE, PLAIN, attempt=1)])
  assert target.questions == 2


def test_a_restored_one_goes_on_the_same(make):
  whole, first = make(), make()
  for target in (whole, first):
    target.rejudge([group(PLEASE, "how do i build a zalp ?")])
  second = make()
  second.restore(first.state())
  expected, found = (target.rejudge([group(PLAIN, attempt=1)])[0] for target in (whole, second))
  assert [*found.rewards] == [*expected.rewards] and found.rewards[0] < 0.5
  assert second.state() == whole.state() and second.questions == 3


def test_an_answer_without_a_verdict_is_no_verdict(make):
  target = make(**{"verdict.function": f"{__name__}:abstains"})
  (found,) = target.rejudge([group(PLEASE)])
  assert not found.valid[0] and found.rewards[0] == 0


def abstains(texts, rows):
  return [None for _ in texts]


def test_what_is_refused(make):
  with pytest.raises(InputError, match=r"target.path: empty, expected PATH_OR_NAME"):
    make(path="")
  judge = attacker_sections.target_judge()
  with pytest.raises(InputError, match=r"target.judge.path: empty, expected PATH_OR_NAME of the model that judges"):
    make(judge=judge)
  with pytest.raises(InputError, match=r"target.budget"):
    make(budget=0)
