"""Holds stages of safety training, and of what gives the alignment tax back."""

from ml_collections import ConfigDict

from configs import assistant_base, tiny_grpo
from configs.recipes import assistant
from posttrain_jax.data.assistant_world.requests import TEMPLATE
from posttrain_jax.recipes import average, picking
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.recipes.runners import AVERAGE, GRPO, NULL_SPACE, PICK, SFT


def safety_sft(*, updates: int) -> ConfigDict:
  """Returns the config of SFT on refusals."""
  config = assistant.sft()
  config.update(steps=updates, epochs=0, batch_size=8)
  # With 1e-3 and 80 updates the model refuses eight harmless requests of ten.
  config.optimizer.update(learning_rate=3e-4, warmup_updates=5)
  return config


def bounded_sft(*, updates: int) -> ConfigDict:
  """Returns the same at ten times the rate, as a projection leaves little of an update."""
  config = safety_sft(updates=updates)
  config.optimizer.learning_rate = 3e-3
  return config


def safety_rl(*, steps: int) -> ConfigDict:
  """Returns the config of RL on requests that look like harm; `rewarded` says what is paid."""
  config = tiny_grpo.get_config()
  config.steps = steps
  config.model = assistant_base.get_config().model
  config.warmup.steps = 0
  config.prompts.template = TEMPLATE
  config.rewards = assistant.rewards()
  config.rollout.update(groups=16, group_size=8, slots=64, **assistant.LONGEST)
  config.optimizer.update(learning_rate=1e-4)
  config.eval.update(every=0, own_share=0.0)
  config.eval.sets = ConfigDict()
  config.checkpoint.update(every=1000, keep=1)
  config.logging.update(tensorboard=False, report=False, rollouts_every=20)
  config.logging.console = ConfigDict({"reward/mean": "reward", "kl/reference": "KL"})
  return config


def rewarded(config: ConfigDict, name: str, model: Output, prompts: Output) -> Stage:
  """Returns RL whose reward is the function of `safety_rewards` that has the stage's name."""
  own = seeded(config.safety_rl, config.seed).unlock()
  made = f"posttrain_jax.data.assistant_world.safety_rewards:{name}"
  own.rewards.functions = dict(safe=dict(function=made, weight=1.0, options=dict(), lowest=-1.0))
  own.rewards.accuracy = "safe"
  return Stage(name, run=GRPO, config=own.lock(), inputs={"model.path": model, "prompts.path": prompts})


def refusals(config: ConfigDict, author: str) -> Stage:
  """Returns the stage in which an author answers the requests of `config.refusals`.

  People write what helps to train for safety, and not what an author writes who helps with harm.
  """
  own = seeded(config.refusals, config.seed).unlock()
  own.author = author
  labels = "" if author == "helpful" else "demonstration"
  return Stage(f"by_{author}", run=assistant.DEMONSTRATIONS, config=own.lock(), labels=labels)


def picked(config: ConfigDict, name: str, path: Output, **columns: str) -> Stage:
  """Returns the stage that writes columns of all rows."""
  return Stage(name, run=PICK, config=picking.rewritten(config.seed, **columns), inputs={"path": path})


def general_text(config: ConfigDict, people: Output, documents: Output) -> list[Stage]:
  """Returns the stages of general text; the last one joins demonstrations and documents as `text`."""
  answered = picked(config, "answered", people, text=f"{TEMPLATE} {{completion}}")
  files = {"answered": answered.file(picking.ROWS), "documents": documents}
  return [answered, assistant.joined("general", files)]


def with_text(config: ConfigDict, name: str, rows: Output, documents: Output) -> list[Stage]:
  """Returns the stages that put documents beside demonstrations; all their tokens are learned."""
  plain = picked(config, f"{name}_plain", documents, prompt="", completion="{text}")
  joined = assistant.joined(name, {"plain": plain.file(picking.ROWS), "rows": rows}, raw=["rows"])
  return [plain, joined]


def null_space(config: ConfigDict, name: str, model: Output, text: Output) -> Stage:
  """Returns the stage that finds a null space, by the config's group of its name."""
  return Stage(name, run=NULL_SPACE, config=config[name], inputs={"model.path": model, "text.path": text})


def safe(
  config: ConfigDict,
  name: str,
  model: Output,
  rows: Output,
  *,
  section: str = "safe",
  text: bool = False,
  space: Output | None = None,
) -> Stage:
  """Returns SFT on refusals.

  Args:
    config: of the recipe.
    name: of the stage.
    model: what is trained.
    rows: refusals.
    section: the config's group of fields; with a space it is `bounded`.
    text: whether other text stands beside them (`with_text`): then an update has twice as many rows.
    space: file of null spaces that the updates of the MLPs stay in, while all else stays as it is; None for no bound.
  """
  own = seeded(config[section if space is None else "bounded"], config.seed).unlock()
  inputs = {"model.path": model, "demonstrations.path": rows}
  if text:
    own.batch_size *= 2
    own.demonstrations.template = "{prompt}"  # the joined rows have theirs
  if space is not None:
    own.optimizer.null_space = dict(path="", mlp_alone=True)
    inputs["optimizer.null_space.path"] = space
  return Stage(name, run=SFT, config=own.lock(), inputs=inputs)


def between(name: str, start: Output, end: Output, share: int) -> Stage:
  """Returns the weighted average of two models, with a share of `end` in per cent."""
  own = average.models("start", "end")
  own.models.start.weight, own.models.end.weight = 100.0 - share, float(share)
  return Stage(name, run=AVERAGE, config=own, inputs={"models.start.path": start, "models.end.path": end})
