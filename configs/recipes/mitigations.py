"""Holds stages of safety training, and of what gives the alignment tax back."""

from ml_collections import ConfigDict

from configs.recipes import assistant
from posttrain_jax.data.assistant_world.requests import TEMPLATE
from posttrain_jax.recipes import average, picking
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.recipes.runners import AVERAGE, NULL_SPACE, PICK, SFT


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
