"""Tests a config's evaluation sets with an engine that answers from a script."""

import dataclasses

import numpy as np
import pytest

from configs import tiny_dapo, tiny_sft
from posttrain_jax.assembly.judges import answer_text
from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.rollout_engine import RolloutSettings
from posttrain_jax.data.demonstrations import SYMBOLS
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.evaluation import evaluator as module
from posttrain_jax.evaluation.evaluator import EvaluationSettings, Evaluator
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import Group, InputError
from tests.pipelines.made_groups import answer

TOKENIZER = tiny_tokenizer(SYMBOLS)
SIZES = dict(num_layers=2, embed_dim=8, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=4)
POLICY = Policy(TransformerConfig(vocab_size=TOKENIZER.vocab_size, **SIZES), TOKENIZER)


class Engine:
  """Answers right if greedy, and in samples if the sample's number is even."""

  made: list["Engine"] = []  # noqa: RUF012

  def __init__(self, model, sampling, sizes, **settings):
    self.sampling, self.sizes, self.settings, self.calls = sampling, sizes, settings, []
    Engine.made.append(self)

  def load(self, params, version):
    self.calls.append(("load", params, version))

  def unload(self):
    self.calls.append(("unload",))

  def generate(self, prompts, group_size):
    self.calls.append(("generate", len(prompts), group_size))
    return [Group(prompt, tuple(self._answer(prompt, i) for i in range(group_size))) for prompt in prompts]

  def _answer(self, prompt, sample):
    right = self.sampling.temperature == 0 or sample % 2 == 0
    text = f" Answer: {prompt.row['answer'] if right else (int(prompt.row['answer']) + 1) % 10}"
    return answer([*TOKENIZER.encode(text), TOKENIZER.eos_id])


def judge(groups):
  judged = []
  for group in groups:
    texts = tuple(answer_text(TOKENIZER, answer.tokens) for answer in group.answers)
    group = dataclasses.replace(group, texts=texts)
    accuracy = np.array([text[-1:] == group.prompt.row["answer"] for text in group.texts], np.float32)
    valid = np.ones(accuracy.shape, bool)
    judged.append(dataclasses.replace(group, accuracy=accuracy, rewards=accuracy, valid=valid))
  return judged


def section(**changes):
  config = tiny_sft.evaluation()
  config.sets.heldout.prompts.per_difficulty = 2
  config.update_from_flattened_dict(changes)
  return config


@pytest.fixture
def make(monkeypatch):
  monkeypatch.setattr(module, "Engine", Engine)
  monkeypatch.setattr(Engine, "made", [])

  def evaluator(config=None, seed=0, rollout=None):
    settings = parse(EvaluationSettings, config or section(), "eval")
    return Evaluator(settings, POLICY, judge, seed=seed, mesh=make_mesh({"data": 8}), rollout=rollout)

  return evaluator


def two_sets():
  config = section()
  nucleus = config.sets.heldout.copy_and_resolve_references()
  nucleus.samples, nucleus.greedy, nucleus.sampling.top_p, nucleus.prompts.per_difficulty = 3, False, 0.7, 1
  config.sets.nucleus = nucleus
  return config


def test_each_set_is_evaluated_and_named(make):
  metrics, groups = make(two_sets())("parameters", 5)
  assert metrics["eval/heldout/avg@8"] == 0.5 and metrics["eval/heldout/greedy"] == 1
  assert metrics["eval/nucleus/avg@3"] == pytest.approx(2 / 3) and metrics["eval/nucleus/maj@3"] == 1
  assert "eval/nucleus/greedy" not in metrics
  assert metrics["eval/heldout/problems"] == 12 and metrics["eval/nucleus/problems"] == 6
  assert metrics["eval/heldout/no_answer"] == 0  # found in the style of the config
  assert {name: len(each) for name, each in groups.items()} == {"heldout": 12, "nucleus": 6}
  assert groups["heldout"][0].texts[0].startswith(" Answer: ") and "<eos>" not in groups["heldout"][0].texts[0]


def test_a_set_may_report_every_problem(make):
  config = two_sets()
  config.sets.nucleus.per_problem = True
  metrics, _ = make(config)("parameters", 5)
  assert metrics["eval/nucleus/per_problem/avg@3"] == pytest.approx([2 / 3] * 6)
  assert not [name for name in metrics if name.startswith("eval/heldout/per_problem")]


def test_engines_have_the_settings_of_their_set(make):
  make(two_sets(), seed=0)
  heldout, greedy, nucleus = sorted(
    Engine.made, key=lambda engine: (engine.sampling.top_p < 1, -engine.sampling.temperature)
  )
  assert (heldout.sampling.temperature, greedy.sampling.temperature, nucleus.sampling.top_p) == (1.0, 0.0, 0.7)
  assert not greedy.sampling.truncates
  for engine in Engine.made:
    assert engine.sampling.stop_ids == TOKENIZER.stop_ids
    assert engine.sizes.max_new_tokens == 24 and engine.sizes.slots == 128
  assert len({engine.settings["seed"] for engine in Engine.made}) == 1


def test_engines_prefill_and_keep_caches_as_the_rollouts_do(make):
  config = tiny_dapo.get_config().rollout
  config.update(slots=16, cache_tokens=640, prefill_chunk=96, prefill_width=3, steps_per_dispatch=5)
  make(rollout=parse(RolloutSettings, config, "rollout"))
  for engine, share in zip(Engine.made, (1, 8)):
    sizes = engine.sizes
    assert (sizes.slots, sizes.max_new_tokens, sizes.share) == (128, 24, share)  # the evaluation's own
    assert (sizes.cache_tokens, sizes.prefill_chunk, sizes.prefill_width, sizes.steps_per_dispatch) == (640, 96, 3, 5)


def test_parameters_are_loaded_before_and_caches_freed_after(make):
  evaluate = make()
  evaluate("first", 1)
  evaluate("second", 9)
  for engine, size in zip(Engine.made, sorted((1, 8)) if Engine.made[0].sampling.temperature == 0 else (8, 1)):
    assert engine.calls == [
      ("load", "first", 1), ("generate", 12, size), ("unload",),
      ("load", "second", 9), ("generate", 12, size), ("unload",),
    ]  # fmt: skip


def test_the_same_seed_shares_its_random_numbers(make):
  make(seed=0), make(seed=0), make(seed=1)
  seeds = [engine.settings["seed"] for engine in Engine.made]
  assert len(set(seeds[:4])) == 1 and len(set(seeds)) == 2


def test_digests_say_what_each_set_was_read_from(make):
  digests = make(two_sets()).digests
  assert list(digests) == ["eval.sets.heldout.prompts", "eval.sets.nucleus.prompts"]
  assert len(set(digests.values())) == 2


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"sets.heldout.samples": 0}, "eval.sets.heldout.samples: 0, expected at least 1"),
    ({"sets.heldout.prompts.split": "heldout"}, "eval.sets.heldout.prompts.split: 'heldout', expected one of"),
    ({"sets.heldout.sampling.top_p": 0.0}, "eval.sets.heldout.sampling.top_p: 0.0, expected in (0, 1]"),
    ({"answer_style": "line"}, "eval.answer_style: 'line', expected one of"),
    ({"max_prompt_length": 2}, "prompt of 3 tokens, the limit is 2 (eval.max_prompt_length)"),
  ],
)
def test_what_is_refused(make, changes, message):
  with pytest.raises(InputError) as error:
    make(section(**changes))
  assert message in str(error.value) and "\n" not in str(error.value)
