"""Makes small forms of the recipes that the package has.

They have tiny models, a small world, and a few steps of each stage."""

import dataclasses
import importlib

from configs.recipes import arithmetic
from posttrain_jax.recipes.load import load_recipe
from posttrain_jax.recipes.runners import ASSISTANT_BASE
from tests.data.assistant_world.small_world import SETTINGS

_MODEL = dict(num_layers=1, embed_dim=32, mlp_dim=64, num_heads=2, num_kv_heads=1, head_dim=16, unroll=1)
_ARITHMETIC = {
  "rounds": 1,
  **{f"sft.model.{name}": value for name, value in _MODEL.items()},
  "sft.steps": 6,
  "sft.demonstrations.per_difficulty": 60,
  "reward_model.epochs": 0,
  "reward_model.steps": 4,
  "reward_model.preferences.per_difficulty": 30,
  "reward_model.optimizer.schedule": "constant",
  "reward_model.eval.every": 4,
  "collect.prompts.per_difficulty": 4,
  "collect.rollout.prompts": 8,
  "collect.rewards.workers": 0,
  "chosen.steps": 4,
  "dpo.epochs": 0,
  "dpo.steps": 4,
  "dpo.batch_size": 4,
  "dpo.rewards.workers": 0,
  "measures.rewards.workers": 0,
  "measures.eval.sets.heldout.prompts.per_difficulty": 4,
  **{f"{name}.checkpoint.every": 2 for name in ("sft", "reward_model", "chosen", "dpo")},
}
_BASE = {
  **{f"model.{name}": value for name, value in _MODEL.items()},
  "steps": 6,
  "batch_size": 8,
  "demonstrations.corpus.documents": 60,
  "checkpoint.every": 2,
  **{f"base.{name}": 1 for name in ("requests", "sums", "samples")},
  **dict(zip(("base.plain", "base.max_new_tokens", "base.slots"), (2, 4, 8))),
  **dict(zip(("base.lowest_pass", "base.highest_pass"), (0.0, 1.0))),
}
_KINDS = dict(fact=24, sum=12, harm=12)
# Of a life from raw text on.
_LIFE = {
  "raw.documents": 400,
  "raw.exam": 10,
  **{f"pretrain.model.{name}": value for name, value in _MODEL.items()},
  "pretrain.steps": 6,
  "pretrain.batch_size": 8,
  "pretrain.eval.every": 4,
  "pretrain.checkpoint.every": 2,
  "chosen": 2,
  **dict(zip(("attacks.requests", "attacks.shots", "attacks.slots", "attacks.max_new_tokens"), (1, 1, 8, 4))),
  **dict(zip(("attacks.suffix.words", "attacks.suffix.rounds", "attacks.suffix.candidates"), (2, 1, 2))),
  **dict(zip(("users.habits.votes", "users.habits.edits"), (1.0, 1.0))),
  **dict(zip(("users.answers", "users.clients", "users.slots", "users.max_new_tokens"), (2, 4, 8, 12))),
  "lessons.copies": 1,
}
_SFT = ("first", "sft", "cold", "distilled", "expert_sft", "chat", "reasoner_sft", "helpful", "critic")
_REWARD_MODELS = ("reward", "reward_model", "preference", "judge")
_GRPO = ("zero", "reasoning", "r1", "expert", "v3")
_COLLECTIONS = ("answers", "collect", "chosen", "reflective", "unprompted", "accepted")
_ANSWERING = ("first", "cold", "sft", "expert_sft", "chat", "reasoner_sft")
# Of all recipes in the assistant world, where they have these fields.
_WORLD = {
  **_LIFE,
  **{f"{name}.steps": 4 for name in (*_SFT, *_REWARD_MODELS, *_GRPO, "dpo", "ppo")},
  **{f"{name}.epochs": 0 for name in (*_SFT, *_REWARD_MODELS, "dpo")},
  **{f"{name}.batch_size": 8 for name in (*_SFT, *_REWARD_MODELS, "dpo", "epochs")},
  **{f"{name}.checkpoint.every": 2 for name in (*_SFT, *_REWARD_MODELS, *_GRPO, "dpo", "ppo", "epochs")},
  **{f"{name}.eval.every": 4 for name in _REWARD_MODELS},
  **{f"{name}.preferences.strengths": () for name in (*_REWARD_MODELS, "dpo")},
  **{f"{name}.rollout.groups": 4 for name in _GRPO},
  **{f"{name}.rollout.group_size": 2 for name in _GRPO},
  **{f"{name}.rollout.slots": 8 for name in _GRPO},
  **{f"{name}.rollout.max_new_tokens": 4 for name in _GRPO},
  **{f"{name}.learner.updates_per_step": 2 for name in _GRPO},
  **{f"{name}.reference.refresh_every": 2 for name in _GRPO},
  **{f"{name}.logging.rollouts_every": 1 for name in _GRPO},
  # So that something is chosen of the answers that end.
  **{f"{name}.selection.threshold": -1.0 for name in ("chosen", "reflective", "unprompted", "accepted")},
  # So that some of a model's short answers end and differ.
  **{f"{name}.optimizer.learning_rate": 1e-2 for name in _ANSWERING},
  **{f"{name}.steps": 40 for name in _ANSWERING},
  **{f"{name}.rollout.max_new_tokens": 12 for name in _COLLECTIONS},
  "ppo.rollout.max_new_tokens": 4,
  **{f"{name}.rollout.slots": 8 for name in (*_COLLECTIONS, "ppo")},
  "answers.rollout.samples": 4,
  "rankings.least": 2,
  "rankings.most": 4,
  "comparisons.samples": 2,
  "comparisons.pairs": 1,
  "samples": 2,
  "documents.documents": 40,
  "critic_data.repeats": 1,
  "critic_data.pairs": 1,
  "critic_data.exercises": 20,
  "red_team.limit": 24,
  "critiques.rounds": 2,
  "critiques.slots": 8,
  "critiques.max_new_tokens": 4,
  **{f"{name}.slots": 8 for name in ("judging", "auditing")},
  **{f"{name}.max_thought": 4 for name in ("judging", "auditing")},
  "epochs.epochs": 2,
  "epochs.eval.max_new_tokens": 4,
  "epochs.eval.slots": 8,
  "ppo.rollout.groups": 16,
  "ppo.ptx.rows": 8,
  "ppo.logging.rollouts_every": 1,
  "rounds": 1,
  "judge.eval.slots": 8,
  "judge.eval.max_new_tokens": 4,
  "asking.slots": 8,
  "asking.max_new_tokens": 4,
  "distances.window": 1,
  "measures.measures.requests": 1,
  "measures.measures.sums": 1,
  "measures.measures.samples": 1,
  "measures.measures.plain": 2,
  "measures.measures.max_new_tokens": 4,
  "measures.measures.slots": 8,
}

_REQUESTS = ("demonstrations", "ranked", "choosing", "asked", "prompts", "sums", "compared", "worked", "others")
_REQUESTS += ("problems", "people", "refusals", "requests")


def small_recipe(name, devices=1):
  """Makes a small form of configs/recipes/NAME.py for so many devices."""
  module = importlib.import_module(f"configs.recipes.{name}")
  config = module.get_config()
  if module is arithmetic:
    config.update_from_flattened_dict(_ARITHMETIC)
  else:
    known = dict(_flat(config))
    config.update_from_flattened_dict({field: value for field, value in _WORLD.items() if field in known})
    if "critiques" in config:  # an answer that does not end is none, and two to a prompt must differ
      config.collect.rollout.max_new_tokens, config.drawn = 48, dict(attacked=8, asked_again=8)
      config.reward.preferences.held_out = 0.0  # few answers end, so there are few comparisons
    if "release" in config:  # so few requests have no harm that is meant
      config.gates.dpo.may_fall = {"seen/answers": 1.0}
      config.release = dict(at_least={"seen/answers": 0.0}, at_most={"attacks/direct_complied": 1.0})
    for section in _REQUESTS:
      if section in config:
        config[section].kinds = dict(_KINDS)
  recipe = load_recipe(f"{name}.py", vars(module), config)
  return dataclasses.replace(recipe, stages=[_small(stage, devices) for stage in recipe.stages])


def _small(stage, devices):
  config = stage.config.copy_and_resolve_references().unlock()
  if stage.run is ASSISTANT_BASE:
    config.update_from_flattened_dict(_BASE)
  for section in (config, config.get("measures", None), config.get("demonstrations", {}).get("corpus", None)):
    if section is not None and "world" in section:
      section.world = dataclasses.asdict(SETTINGS)
  if "mesh" in config:
    config.mesh.data = devices
  for section in (config, config.get("value", {})):
    if "optimizer" in section:
      section.optimizer.warmup_updates = 1
  return dataclasses.replace(stage, config=config.lock())


def _flat(section, prefix=""):
  for name, value in section.items():
    yield f"{prefix}{name}", value
    if hasattr(value, "items"):
      yield from _flat(value, f"{prefix}{name}.")
