"""A trained reward model as a judge of sampled answers: by the path of its run."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jax.sharding import Mesh

from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.pipelines.policy import digests, find_tokenizer, load_model
from posttrain_jax.rewards.judge import OVERLONG
from posttrain_jax.rewards.model_reward import ModelReward
from posttrain_jax.types import Group, InputError

ScoreGroups = Callable[[Sequence[Group]], list[np.ndarray]]
Judge = Callable[[Sequence[Group]], list[Group]]


def load_reward_model(
  path: str, tokenizer: Tokenizer, where: str, *, mesh: Mesh | None = None
) -> tuple[ModelReward, dict[str, str]]:
  """Loads a reward model for answers in a policy's own tokens.

  Args:
    path: PATH_OR_NAME of a reward model.
    tokenizer: the policy's; the reward model's has to be the same, as answers are not tokenised again.
    where: the config field that has the path.
    mesh: devices and layout; one device if None.

  Returns:
    (the reward model, `where` to the digest of its weights).

  Raises:
    InputError: nothing is there, it is a language model, its tokeniser is another one, or it does not fit the mesh.
  """
  config, params = load_model(path)
  if not config.scalar_head:
    raise InputError(f"{where}: {path} is a language model, expected a reward model")
  same_tokenizer(path, tokenizer, where)
  try:
    model = ModelReward(config, params, mesh=mesh)
  except InputError as error:
    raise InputError(f"{where}: {path}: {error}") from None
  return model, {where: digests(path, tokenizer)["model"]}


def same_tokenizer(path: str, tokenizer: Tokenizer, where: str) -> None:
  """Raises InputError where the model at `path`, named by the config field `where`, has other tokens or none known."""
  own = find_tokenizer(path)
  if own is None or own.digest() != tokenizer.digest():
    raise InputError(f"{where}: {path} has another tokeniser than the policy, or none; expected the same")


def rejudge_by_model(score: ScoreGroups) -> Judge:
  """Gives judged groups a reward model's rewards, and the length penalty where there is one.

  The verifier's verdict stays as the accuracy: for the metrics, and for dynamic sampling.
  """
  return lambda judged: [_rejudged(group, rewards) for group, rewards in zip(judged, score(judged))]


def judge_by_model(verify: Judge, score: ScoreGroups) -> Judge:
  """A judge by a verifier first, and then by a reward model, as `rejudge_by_model` says."""
  rejudge = rejudge_by_model(score)
  return lambda groups: rejudge(verify(groups))


def _rejudged(group: Group, scores: np.ndarray) -> Group:
  valid = group.valid & np.isfinite(scores)
  rewards = np.where(valid, scores + group.components.get(OVERLONG, 0), 0).astype(np.float32)
  return dataclasses.replace(group, rewards=rewards, valid=valid)
