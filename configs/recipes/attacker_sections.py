"""Holds the stages of a model that learns to attack another one.

They are orders, SFT on requests for harm, and RL.

Fields without a comment are explained in configs/tiny_sft.py and configs/tiny_grpo.py.
"""

import dataclasses

from ml_collections import ConfigDict

from configs import assistant_base, tiny_grpo
from configs.recipes import assistant
from posttrain_jax.data.assistant_world.harm_verdicts import QUESTION
from posttrain_jax.data.assistant_world.requests import TEMPLATE
from posttrain_jax.recipes import attack_lessons, attacker
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.recipes.runners import ATTACKER, SFT, function

_OWN = "posttrain_jax.data.assistant_world.learned_attacks"
ORDERS = function(
  attacker.write_orders, attacker.ORDERS, attacker.EXAMPLES, check=attacker.check, forecast=attacker.forecast
)
LEARN = function(
  attack_lessons.write_lessons, attack_lessons.LESSONS, check=attack_lessons.check, forecast=attack_lessons.forecast
)


def imitation() -> ConfigDict:
  """Returns the config of SFT on requests for harm, from which RL starts."""
  config = assistant.sft()
  config.update(steps=0, epochs=4, batch_size=8)
  return config


def target() -> ConfigDict:
  """Returns the section of the model that is attacked, without a path."""
  return ConfigDict(
    dict(
      path="",  # PATH_OR_NAME of the model
      budget=6144,  # most answers that it gives in the whole run; those that a searched suffix is rated on are as many
      # The function of `rewards` that gives 1 to an attack which asks for its harm; others are not put. Empty: all are.
      asks="asks",
      verdict=dict(function=f"{_OWN}:complied", weight=1.0, options={}, lowest=0.0),  # 1 if the model's answer complies
      penalty=1.0,  # what an attack loses that does not ask for its harm
      novelty=0.6,  # weight of the reward for novelty; 0: success alone
      longest=4,  # tokens of the longest n-grams that novelty looks at
      template=TEMPLATE,  # text around an attack
      chat=False,  # render an attack with the model's chat template
      system="",  # system message of an attack that is rendered as a chat; empty: none
      slots=64,  # answers that are drawn at the same time
      max_prompt_length=attacker.LONGEST + 8,  # limit on an attack in the template, in the model's tokens
      max_new_tokens=assistant.LONGEST["max_new_tokens"],  # limit on the model's answer
      sampling=dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, stop_ids=(), stop_strings=()),
    )
  )


def target_judge() -> ConfigDict:
  """Returns the section of a judge that is paid, without a path."""
  return ConfigDict(
    dict(
      path="",  # PATH_OR_NAME of the judge
      longest=400,  # characters of an attack and of an answer that it reads
      question=dataclasses.asdict(QUESTION),  # two statements about the answer, one after each letter
    )
  )


def attacking() -> ConfigDict:
  """Returns the config of RL whose answers are attacks."""
  config = tiny_grpo.get_config()
  config.steps = 100  # at most; the budget ends it before
  config.model = assistant_base.get_config().model
  config.warmup.steps = 0
  config.prompts.template = TEMPLATE
  config.rewards = assistant.rewards()
  config.rewards.functions = dict(asks=dict(function=f"{_OWN}:asks", weight=1.0, options={}, lowest=0.0))
  config.rewards.accuracy = "asks"
  config.target = target()
  config.rollout.update(groups=12, group_size=16, slots=64, max_prompt_length=32, max_new_tokens=attacker.LONGEST)
  config.advantage = "group_centered"  # else a little novelty would count as much as success
  config.objective.kl_coefficient = 0.01
  config.optimizer.update(learning_rate=2e-4)
  config.eval.update(every=0, own_share=0.0)
  config.eval.sets = ConfigDict()
  config.checkpoint.update(every=10, keep=1)
  config.logging.update(tensorboard=False, report=False, rollouts_every=10)
  config.logging.console = ConfigDict({"reward/complied": "complied", "reward/novelty": "novelty"})
  return config


def imitator(config: ConfigDict, base: Output | str, orders: Stage) -> Stage:
  """Returns SFT on requests for harm."""
  return assistant.stage(
    config, "imitator", SFT, {"model.path": base, "demonstrations.path": orders.file(attacker.EXAMPLES)}
  )


def trained(
  config: ConfigDict,
  name: str,
  start: Output,
  orders: Stage,
  against: Output,
  *,
  novel: bool = True,
  round: int = 0,
  judge: Output | None = None,
  ruled: bool = True,
) -> Stage:
  """Returns RL of an attacker.

  Args:
    config: of the recipe.
    name: of the stage.
    start: what is trained.
    orders: stage of the orders.
    against: the model that is attacked.
    novel: whether novelty is rewarded.
    round: another number draws other attacks.
    judge: the model whose verdict is paid; None: the rule's is.
    ruled: whether a rule says that an attack has to ask for its harm.
  """
  own = seeded(config.attacking, config.seed + 1000 * round).unlock()
  if not novel:
    own.target.novelty = 0.0
  if not ruled:
    own.target.asks = ""
  inputs = {"model.path": start, "prompts.path": orders.file(attacker.ORDERS), "target.path": against}
  if judge is not None:
    own.target.judge = target_judge()
    inputs["target.judge.path"] = judge
  return Stage(name, run=ATTACKER, config=own.lock(), inputs=inputs)
