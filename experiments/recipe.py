"""Runs a recipe: a list of stages from a base model to an assistant.

    python -m experiments.recipe --recipe=configs/recipes/NAME.py[:arg] --config.FIELD=value --workdir=DIR

Without --recipe it takes configs/recipes/arithmetic.py, which runs in minutes on two CPU cores. Before anything runs
it says which stages are new, changed or unfinished, and estimates their work and cost; afterwards the actual figures
stand beside that. DIR has a folder for each stage and report.html. Run again on the same DIR to go on: a finished stage
is not run again, a changed one and those that depend on it are. A recipe with a `topology`, such as the numbers of a
paper, is compiled for it and not run (needs libtpu, see launch/README.md). The last line printed is one JSON object.
A stage that loses more than its bound (the config's `gates`) stops the recipe, and nothing is lost; --accept=STAGE goes
on. Exit codes: 0 done, 2 bad recipe or input, 75 preempted after a checkpoint, 1 anything else.
"""

import json

from absl import flags as absl_flags

from experiments import flags

_ACCEPT = absl_flags.DEFINE_multi_string("accept", [], "a stage whose losses stop nothing; may stand several times")


def main(config, workdir, file, names):
  import jax

  from posttrain_jax.recipes import tables
  from posttrain_jax.recipes.load import load_recipe
  from posttrain_jax.recipes.run import estimated, run_recipe
  from posttrain_jax.types import InputError

  def say(text):
    print(text, flush=True)

  recipe = load_recipe(file, names, config)
  if recipe.topology:
    from posttrain_jax.recipes.paper import prove_stages

    jax.config.update("jax_platforms", "cpu")  # nothing runs, and no chip is to be opened
    say(f"estimated:\n{tables.as_text(estimated(recipe))}\n")
    reports = prove_stages(recipe.stages, recipe.topology, say=say)
    print(json.dumps({"recipe": recipe.name, "topology": recipe.topology, "stages": reports}))
  elif not workdir:
    raise InputError("--workdir: missing, expected a directory for the recipe's files")
  else:
    print(json.dumps(run_recipe(recipe, workdir, accepted=_ACCEPT.value, say=say)))


if __name__ == "__main__":
  flags.run(main, recipe=True, needs_workdir=False, default="recipes/arithmetic")
