"""Makes a config of which a run's programs are made and lowered in seconds."""

import jax

from posttrain_jax.performance.compile.programs_of_a_run import parse_method, programs_of_run
from posttrain_jax.performance.compile.proof import policy_of
from tests.pipelines.small_run import OVERRIDES

SMALL = OVERRIDES | {
  "warmup.steps": 0,
  "model.num_layers": 2,
  "model.embed_dim": 16,
  "model.num_heads": 4,
  "model.num_kv_heads": 2,
  "model.head_dim": 8,
  "model.unroll": 1,
  "mesh.data": 2,
  "mesh.fsdp": 2,
  "mesh.tensor": 2,
  "rollout.groups": 8,
  "rollout.slots": 32,
  "rollout.max_prompt_length": 9,
}


def small(base, **changes):
  config = base.get_config().unlock()
  for name, value in {**SMALL, **changes}.items():
    *groups, field = name.split(".")
    section = config
    for group in groups:
      section = section.get(group, {})
    if field in section:
      section[field] = value
  config.model.vocab_size = 64
  return config


def programs(config, answer_length=0):
  settings = parse_method(config)
  return programs_of_run(settings, policy_of(settings.model, ""), jax.devices(), answer_length=answer_length)
