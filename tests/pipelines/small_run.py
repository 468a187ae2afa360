"""Holds the settings of a run that is small enough to be started many times in tests."""

STEPS = 8
# Small, with what can go wrong in it: a warm-up, carried groups, several updates a step, evaluations.
OVERRIDES = {
  "steps": STEPS,
  "warmup.steps": 8,
  "warmup.eval.every": 3,
  "warmup.checkpoint.every": 2,
  "warmup.demonstrations.per_difficulty": 50,
  "model.num_layers": 2,
  "model.embed_dim": 32,
  "model.mlp_dim": 64,
  "model.num_heads": 2,
  "model.num_kv_heads": 1,
  "model.head_dim": 16,
  "prompts.per_difficulty": 20,
  "rewards.functions.correct.function": "tests.pipelines.coin_reward:coin",
  "rollout.groups": 4,
  "rollout.group_size": 4,
  "rollout.slots": 16,
  "rollout.max_new_tokens": 12,
  "dynamic_sampling.max_prompts": 64,
  "learner.updates_per_step": 2,
  "eval.every": 3,
  "eval.max_new_tokens": 12,
  "eval.slots": 32,
  "eval.sets.heldout.prompts.per_difficulty": 4,
  "checkpoint.every": 2,
  "logging.rollouts_every": 1,
  "logging.tensorboard": False,
}
