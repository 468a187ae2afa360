"""Makes a small warm-up's settings, and the policy that it starts from."""

from configs import tiny_dapo
from posttrain_jax.assembly.model import ModelSettings, Policy, load_policy
from posttrain_jax.pipelines.warm_up import WarmUpSettings
from posttrain_jax.runs.settings import parse


def settings(**changes) -> WarmUpSettings:
  config = tiny_dapo.get_config().warmup
  config.demonstrations.per_difficulty = 5
  config.update_from_flattened_dict(changes)
  return parse(WarmUpSettings, config, "warmup")


def new_policy() -> Policy:
  return load_policy(parse(ModelSettings, tiny_dapo.get_config().model, "model"))
