"""Prints the measures of several runs of one recipe as tables in Markdown.

    python -m experiments.recipe_seeds --run=runs/lima-0 --run=runs/lima-1 --run=runs/lima-2 \
      [--measure='held_out/*'] [--measure=perplexity]

Each --run is the workdir of a finished `experiments.recipe`, mostly of another seed. A cell has the mean over the runs,
the lowest lower and the highest upper bound of their 95 % intervals. A difference whose bounds exclude 0 is bold. Exit
codes: 0 done, 2 bad input, 1 anything else.
"""

from absl import flags as absl_flags

from experiments import flags

_RUN = absl_flags.DEFINE_multi_string("run", None, "DIR, the workdir of a recipe; may be repeated")
_MEASURE = absl_flags.DEFINE_multi_string("measure", [], "a name, or a pattern such as seen/*; may be repeated")


def main():
  from posttrain_jax.recipes.seeds import seed_tables
  from posttrain_jax.reports.markdown import markdown_table

  for title, table in seed_tables(_RUN.value, _MEASURE.value).items():
    print(f"{title}\n" if title else "", markdown_table(*table), "", sep="\n")


if __name__ == "__main__":
  flags.run_plain(main, required=["run"])
