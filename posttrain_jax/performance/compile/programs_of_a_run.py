"""Lists the programs that a run of a method executes, with abstract arguments.

The methods are GRPO and its kin, PPO, DPO, SFT, reward models (generative ones, too), and collections of answers. The
programs come from the same learners, scorers and engine that the run makes. On a mesh of devices that do not exist
these are made without arrays. Batches are as wide as the config allows; a run's batches may be narrower, depending on
its data. The supervised warm-up and the evaluations are left out; their engines differ from the rollout's in size
only.

`policy_gradient_programs` and `policy_programs` have the programs of GRPO and PPO, `sampling_programs` all that draws
answers, `offline_programs` what trains on given data.
"""

from collections.abc import Sequence

import jax
import ml_collections

from posttrain_jax.assembly.model import Policy
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.performance.compile.offline_programs import of_dpo, of_reward_model, of_supervised
from posttrain_jax.performance.compile.policy_gradient_programs import of_grpo, of_ppo
from posttrain_jax.performance.compile.program import RunPrograms
from posttrain_jax.performance.compile.reward_model_programs import with_reward_model
from posttrain_jax.performance.compile.sampling_programs import of_collection
from posttrain_jax.performance.compile.second_engine_programs import with_judge, with_target
from posttrain_jax.pipelines.collect_settings import SampledCollection
from posttrain_jax.pipelines.dpo import DPOSettings
from posttrain_jax.pipelines.generative_reward import GenerativeRewardSettings
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.pipelines.ppo_settings import PPOSettings
from posttrain_jax.pipelines.reward_model import RewardModelSettings
from posttrain_jax.pipelines.sft import SFTSettings
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

Offline = SFTSettings | GenerativeRewardSettings | RewardModelSettings | DPOSettings
Settings = GRPOSettings | PPOSettings | Offline | SampledCollection


def parse_method(config: ml_collections.ConfigDict) -> Settings:
  """Parses the config of a method that is compiled, which its fields tell.

  Raises:
    InputError: if it is a config of another method.
  """
  if "demonstrations" in config and "rewards" in config:
    return parse(SFTSettings, config)
  if "demonstrations" in config and "low" in config.demonstrations:  # a scale of scores
    return parse(GenerativeRewardSettings, config)
  if "preferences" in config and "margins" in config:
    return parse(RewardModelSettings, config)
  if "selection" in config and "rollout" in config:
    return parse(SampledCollection, config)
  if "online" in config or "objective" not in config or not ("preferences" in config or "rollout" in config):
    raise InputError(
      "compile: the config is none of GRPO and its kin, PPO, DPO on given pairs, SFT, a reward model or a collection "
      "of sampled answers; expected one"
    )
  if "preferences" in config:
    return parse(DPOSettings, config)
  return parse(PPOSettings if "value" in config else GRPOSettings, config)


def programs_of_run(
  settings: Settings, policy: Policy, devices: Sequence[jax.Device], *, answer_length: int = 0
) -> RunPrograms:
  """Returns the programs of a run.

  Args:
    settings: the method's.
    policy: the model, without parameters, and any tokeniser whose vocabulary fits.
    devices: those of this machine, or of `topology.devices`.
    answer_length: tokens of each answer that is drawn, in the counts of work alone; 0: the cap.

  Raises:
    InputError: if the config does not fit its mesh, if `answer_length` is above the cap, or if it is given and the
      method draws no answers.
  """
  answer_length, mesh = _counted_length(settings, answer_length), make_mesh(settings.mesh, devices)
  match settings:
    case SFTSettings() | GenerativeRewardSettings():
      return of_supervised(settings, policy, mesh)
    case RewardModelSettings():
      return of_reward_model(settings, policy, mesh)
    case DPOSettings():
      return of_dpo(settings, policy, mesh)
    case PPOSettings():
      return of_ppo(settings, policy, mesh, devices, answer_length)
    case GRPOSettings():
      run, answers = (
        of_grpo(settings, policy, mesh, answer_length),
        settings.rollout.groups * settings.rollout.group_size,
      )
      run = with_target(run, settings.target, policy, mesh, answers=answers)
    case SampledCollection():
      run, answers = (
        of_collection(settings, policy, mesh, answer_length),
        settings.rollout.prompts * settings.rollout.samples,
      )
  if settings.reward_model:
    return with_reward_model(run, settings.rollout, policy, mesh, answers=answers, answer_length=answer_length)
  return with_judge(run, settings.judge, policy, mesh, answers=answers)


def _counted_length(settings: Settings, asked: int) -> int:
  """Returns the answers' length for counts; 0 if none are drawn."""
  if not isinstance(settings, GRPOSettings | PPOSettings | SampledCollection):
    if asked:
      raise InputError(f"--answer_length: {asked}, expected none, as the method draws no answers")
    return 0
  cap = settings.rollout.max_new_tokens
  if not 0 <= asked <= cap:
    raise InputError(f"--answer_length: {asked}, expected 1 to rollout.max_new_tokens = {cap}, or 0 for that cap")
  return asked or cap
