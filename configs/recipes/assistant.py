"""Holds what recipes in the assistant world have in common.

That is the base model, stages of data, and tiny configs; measuring.py has their measures.

Fields without a comment are explained in configs/tiny_sft.py, configs/tiny_reward_model.py, configs/tiny_dpo.py and
configs/tiny_collect.py. docs/assistant_world.md describes the world.
"""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from configs import assistant_base, tiny_collect, tiny_dpo, tiny_reward_model, tiny_sft
from posttrain_jax.data.assistant_world.requests import TEMPLATE
from posttrain_jax.recipes import assistant_data, assistant_data_settings, joining
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.recipe import Output, Runner, Stage, seeded
from posttrain_jax.recipes.runners import ASSISTANT_BASE, JOIN, function

DEMONSTRATIONS = function(
  assistant_data.write_demonstrations,
  assistant_data.DEMONSTRATIONS,
  check=check_of(assistant_data_settings.WorldDemonstrationSettings),
  forecast=assistant_data.forecast_demonstrations,
)
PROMPTS = function(
  assistant_data.write_prompts,
  assistant_data.PROMPTS,
  check=check_of(assistant_data_settings.WorldPromptSettings),
  forecast=assistant_data.forecast_prompts,
)
COMPARISONS = function(
  assistant_data.write_comparisons,
  assistant_data.COMPARISONS,
  assistant_data.EDITED,
  check=check_of(assistant_data_settings.WorldComparisonSettings),
  forecast=assistant_data.forecast_comparisons,
)
RANKINGS = function(
  assistant_data.write_rankings,
  assistant_data.RANKINGS,
  check=check_of(assistant_data_settings.RankingSettings),
  forecast=assistant_data.forecast_rankings,
)
DOCUMENTS = function(
  assistant_data.write_documents,
  assistant_data.DOCUMENTS,
  check=check_of(assistant_data_settings.DocumentSettings),
  forecast=assistant_data.forecast_documents,
)
LONGEST = dict(max_prompt_length=32, max_new_tokens=48)  # in the world, in tokens


def world() -> ConfigDict:
  """Returns the world of the base model."""
  return assistant_base.get_config().demonstrations.corpus.world


def base(path: str, width: str = "") -> tuple[list[Stage], Output | str]:
  """Returns the stage of the base model, and the model.

  There is no stage if a path names it.

  The base model does not depend on a recipe's seed, so all seeds and all recipes share the kept one.

  Args:
    path: PATH of a base model; empty to build it.
    width: argument of configs/assistant_base.py.
  """
  if path:
    return [], path
  stage = Stage("_".join(filter(None, (width, "base"))), run=ASSISTANT_BASE, config=assistant_base.get_config(width))
  return [stage], stage.model


def stage(
  config: ConfigDict, name: str, runner: Runner, inputs: Mapping[str, Output | str] | None = None, labels: str = ""
) -> Stage:
  """Returns the stage whose config is the recipe's group of the same name."""
  return Stage(name, run=runner, config=seeded(config[name], config.seed), inputs=inputs or {}, labels=labels)


def joined(name: str, files: Mapping[str, Output | str], *, raw: Sequence[str] = ()) -> Stage:
  """Returns the stage that joins files.

  Args:
    name: of the stage.
    files: by name; their prompts are in the template already, as those of a collection are.
    raw: names of those whose prompts are not.
  """
  config = joining.files(**{file: TEMPLATE if file in raw else "{prompt}" for file in files})
  return Stage(name, run=JOIN, config=config, inputs={f"files.{file}.path": given for file, given in files.items()})


def shard(section: ConfigDict, *, tensor: int = 1) -> None:
  """Gives a stage a public model over all chips of a topology.

  The model's name is an input of the stage.

  Args:
    section: the stage's config.
    tensor: chips that share a matrix and a token's cache. Sampling needs more than one where a chip cannot hold the
      whole model beside its caches.
  """
  section.model = ConfigDict(dict(path="", compute_dtype="bfloat16", remat="full", unroll=1))
  section.mesh = dict(data=1, fsdp=-1, tensor=tensor)


def demonstrations(**kinds: int) -> ConfigDict:
  """Returns the config of demonstrations: number of requests of each kind."""
  return ConfigDict(
    dict(
      world=world(),
      seed=0,
      kinds=kinds,
      author="careful",  # careful, helpful, bare, crowd, solver or reasoner, as in data/assistant_world/answers.py
      permuted=False,  # True gives each request the answer to another one, to see what SFT gains from the answers
      prose=False,  # True writes texts as people write them and asks in English only, for models of English
    )
  )


def prompts(**kinds: int) -> ConfigDict:
  """Returns the config of prompts: number of requests of each kind."""
  return ConfigDict(dict(world=world(), seed=0, kinds=kinds, round=1, prose=False))


def comparisons() -> ConfigDict:
  """Returns the config of comparisons of two answers; the policies are those of the recipe."""
  return ConfigDict(
    dict(
      world=world(),
      seed=0,
      pairs=8,  # comparisons of each prompt at most
      edits=0.3,  # share of the comparisons in which people write a better answer
      samples=8,  # answers of each model to each prompt, from which those that people compare are drawn
      shuffled=False,  # True: chance decides what is preferred, to see what a stage gains from the preferences
      prose=False,  # True: edited answers are written as people write them
      summaries=False,  # True: people see the summaries of answers that think first, and all where harm is asked for
    )
  )


def rankings() -> ConfigDict:
  """Returns the config of rankings by the second rater."""
  return ConfigDict(
    dict(
      candidates="",
      seed=0,
      least=4,  # fewest answers to a prompt that it sees
      most=9,  # most of them
      shuffled=False,  # True: the ranks are drawn by chance, to see what a stage gains from them
    )
  )


def documents(count: int) -> ConfigDict:
  """Returns the config of new documents of the corpus."""
  return ConfigDict(dict(world=world(), seed=1, documents=count, prose=False))


def sft() -> ConfigDict:
  """Returns the config of SFT from a model of the world, on prompts in its template."""
  config = tiny_sft.get_config()
  config.model = assistant_base.get_config().model
  config.demonstrations.update(template=TEMPLATE, row_length=96, max_completion=0)
  config.optimizer.update(learning_rate=1e-3, warmup_updates=20, decay_updates=0, end_fraction=0.1)
  config.checkpoint.update(every=1000, keep=1)
  return _quiet(config)


def reward_model() -> ConfigDict:
  """Returns the config of a reward model from the base model, on comparisons and edits."""
  config = tiny_reward_model.get_config()
  config.model = assistant_base.get_config().model
  config.preferences.update(max_prompt_length=LONGEST["max_prompt_length"], max_answer_length=49)
  config.preferences.strengths = ("significantly", "better")
  config.centering = 0.0
  config.shift_to_demonstrations = False
  config.warmup.steps = 0
  config.eval.every = -1
  config.checkpoint.update(every=1000, keep=1)
  config.logging.update(tensorboard=False, report=False)
  return config


def dpo() -> ConfigDict:
  """Returns the config of DPO as in Llama 3: no end tokens, and a likelihood term."""
  config = tiny_dpo.get_config()
  config.model = assistant_base.get_config().model
  config.preferences.update(max_prompt_length=LONGEST["max_prompt_length"], max_answer_length=49, count_end=False)
  config.preferences.strengths = ("significantly", "better")
  config.preferences.held_out = 0.0
  config.objective.nll_weight = 0.2
  config.warmup.steps = 0
  config.eval.kl = False
  config.checkpoint.update(every=1000, keep=1)
  return _quiet(config)


def collection() -> ConfigDict:
  """Returns the config of a collection of answers to the world's prompts.

  All of them are kept as candidates.
  """
  config = tiny_collect.get_config()
  config.model = assistant_base.get_config().model
  config.warmup.steps = 0
  config.prompts.template = TEMPLATE
  config.rollout.update(prompts=512, slots=64, **LONGEST)
  config.rewards = rewards()
  config.selection.threshold = float("-inf")
  return config


def rewards() -> ConfigDict:
  """Returns the rewards by the world's rules: taste of the first rater, and accuracy."""
  config = tiny_sft.rewards()
  config.workers = 0
  own = "posttrain_jax.data.assistant_world.rewards"
  config.functions = dict(
    correct=dict(function=f"{own}:accuracy", weight=0.0, options=dict(), lowest=0.0),
    rated=dict(function=f"{own}:rated", weight=1.0, options=dict(), lowest=-5.0),
  )
  return config


def _quiet(config: ConfigDict) -> ConfigDict:
  """Returns a config without evaluations and reports of its own: measures are stages."""
  config.eval.update(every=0, own_share=0.0)
  config.eval.sets = ConfigDict()
  config.rewards.workers = 0
  config.logging.update(tensorboard=False, report=False)
  config.logging.console = ConfigDict({"loss": "loss"})
  return config
