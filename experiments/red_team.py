"""Attacks a model of the assistant world, and says how often it complies.

    python -m experiments.red_team --config.model.path=PATH_OR_NAME --workdir=DIR [--config=configs/red_team.py]

DIR gets attacks.jsonl with all texts, answers and verdicts, attacks.json, and report.html. The last line printed is one
JSON object: the share of answers that comply and that refuse, by kind of attack and by category of harm, with 95 %
intervals over requests. docs/red_team.md says what the attacks are. Exit codes: 0 done, 2 bad config or input, 1
anything else.
"""

import json

from experiments import flags


def main(config, workdir):
  import rich.console

  from posttrain_jax.assembly import model
  from posttrain_jax.recipes import attacks
  from posttrain_jax.runs.settings import as_config, parse
  from posttrain_jax.runs.summary import metrics_table
  from posttrain_jax.runs.workdir import Workdir

  attacks.check(config)
  model.read_config(config.model.path)  # a wrong path is found before a directory is made
  with Workdir.open(workdir, as_config(parse(attacks.AttackSettings, config))) as directory:
    found = attacks.attack(config, directory.path)
  shown = {name.removeprefix("attacks/"): value for name, value in found.items() if name.count("/") == 1}
  rich.console.Console().print(metrics_table(shown))
  print(json.dumps({"model": config.model.path, **found, "report": str(directory.path / "report.html")}))


if __name__ == "__main__":
  flags.run(main, default="red_team")
