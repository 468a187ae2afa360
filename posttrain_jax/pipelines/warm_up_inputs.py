"""Says what decides a warm-up, for the digest under which it is kept."""

from collections.abc import Mapping
from typing import Any

from posttrain_jax.assembly.judges import RewardSettings
from posttrain_jax.assembly.model import ModelSettings
from posttrain_jax.evaluation.evaluator import SetsSettings
from posttrain_jax.runs.settings import as_config

_SECTIONS = ("answer_style", "slots", "max_prompt_length", "max_new_tokens", "sets")
_READ = ("tokenizer", "model", "reward_model", "eval.")


def evaluated_on(sets: SetsSettings, rewards: RewardSettings, *, scored: bool) -> dict[str, Any] | None:
  """Returns what decides the metrics of an evaluation.

  Reward functions of one's own may change without a change of the config. So a warm-up that they judge is not kept.

  Args:
    sets: the evaluation sets.
    rewards: the reward functions.
    scored: whether a reward model scores the answers too.

  Returns:
    JSON values; None if a reward function is not one of this package.
  """
  if not all(each.function.startswith("posttrain_jax.") for each in rewards.functions.values()):
    return None
  config, judged = as_config(sets), as_config(rewards)
  for function in judged["functions"].values():  # accuracy knows no weights, except that failures of weight 0 are none
    function["weight"] = bool(function["weight"])
  return {"eval": {name: config[name] for name in _SECTIONS}, "rewards": judged, "scored": scored}


def inputs(
  model: ModelSettings, digests: Mapping[str, str], evaluated: Mapping[str, Any] | None
) -> dict[str, Any] | None:
  """Returns all that a warm-up depends on besides its own settings.

  Args:
    model: the config's.
    digests: of everything that the run reads; what only the method reads is left out.
    evaluated: from `evaluated_on`; empty for no evaluation.

  Returns:
    JSON values; None if `evaluated` is None.
  """
  if evaluated is None:
    return None
  read = {name: digest for name, digest in digests.items() if name.startswith(_READ)}
  return {"model": as_config(model), "read": read, **evaluated}
