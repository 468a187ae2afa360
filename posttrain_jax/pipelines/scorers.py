"""Loads the models that read a run's answers: reward models, and judges that write.

Each is checked before its weights are read, and its digest goes into the run's.
"""

from collections.abc import Iterable, Sequence

from posttrain_jax.assembly.generative_judge import (
  GenerativeJudge,
  GenerativeJudgeSettings,
  current_params,
  fixed_params,
)
from posttrain_jax.assembly.judges import ScoreGroups, place_reward_model
from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.readers import load_reader
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.sampling.engine import Engine


def load_reward_model(run: MethodAssembly, path: str, where: str, *, engines: Iterable[Engine]) -> Policy:
  """Loads the reward model that a config field names, on the host.

  Args:
    run: gets its digest.
    path: PATH_OR_NAME.
    where: the config field.
    engines: draw the answers that it scores.

  Raises:
    InputError: if it is no reward model, has another tokeniser, or has a shorter context than the answers need.
  """
  model, digests = load_reader(path, run.policy.tokenizer, where, scalar_head=True, engines=engines)
  run.digests |= digests
  return model


def reward_scorer(run: MethodAssembly, path: str, where: str, *, engines: Iterable[Engine]) -> ScoreGroups:
  """Places a config field's reward model on the run's mesh and returns its scorer.

  Args:
    run: has the mesh, and gets the model's digest.
    path: PATH_OR_NAME.
    where: the config field.
    engines: draw the answers that it scores.

  Raises:
    InputError: as `load_reward_model`, or if the model does not fit the mesh.
  """
  loaded = load_reward_model(run, path, where, engines=engines)
  return place_reward_model(loaded, where, mesh=run.mesh).score_groups


def generative_scorer(
  run: MethodAssembly, section: GenerativeJudgeSettings, *, engines: Sequence[Engine]
) -> ScoreGroups:
  """Loads a generative reward model, or takes the policy itself, and returns its scorer.

  Args:
    run: has the mesh, the policy and the prompts, and gets the model's digest.
    section: the config's `judge`.
    engines: draw the answers that it scores; the training's first.

  Raises:
    InputError: if there is no such model, if it cannot score, or if an answer could outgrow it.
  """
  if section.self_rewarding:
    judge, params = run.policy, current_params(engines)
  else:
    judge, digests = load_reader(section.path, None, "judge.path", scalar_head=False)
    run.digests |= digests
    params = fixed_params(judge, run.mesh)
  scorer = GenerativeJudge(
    section, judge, params, run.mesh, run.policy.tokenizer, seed=run.settings.seed, engines=engines
  )
  scorer.check_prompts(run.asked, answer_length=max(engine.sizes.max_new_tokens for engine in engines))
  return scorer.score_groups
