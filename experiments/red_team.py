"""Attacks a model of the assistant world or of chats: how often does it comply?

    python -m experiments.red_team --config.model.path=PATH_OR_NAME --workdir=DIR [--config=configs/red_team.py]
    python -m experiments.red_team --config=configs/red_team.py:chat --config.prompts.xstest.path=FILE
      --config.model.path=PATH_OR_NAME --workdir=DIR

DIR gets attacks.jsonl with all texts, answers and verdicts, attacks.json, and report.html. The last line printed is one
JSON object: the share of answers that comply and that refuse, by kind of attack and by category of harm, with 95 %
intervals over requests. With `--config.judge.path=PATH_OR_NAME` a model judges, too, and it is told how often it agrees
with the rule. docs/red_team.md says what the attacks are. Exit codes: 0 done, 2 bad config or input, 1
anything else.
"""

import json

from experiments import flags


def main(config, workdir):
  import rich.console

  from posttrain_jax.assembly import model
  from posttrain_jax.recipes import attacks, chat_attacks
  from posttrain_jax.runs.settings import as_config, parse
  from posttrain_jax.runs.summary import metrics_table
  from posttrain_jax.runs.workdir import Workdir

  attack, settings = (
    (attacks, attacks.AttackSettings) if "world" in config else (chat_attacks, chat_attacks.ChatAttackSettings)
  )
  attack.check(config)
  for path in filter(None, (config.model.path, config.judge.path)):
    model.read_config(path)  # a wrong path is found before a directory is made
  with Workdir.open(workdir, as_config(parse(settings, config))) as directory:
    found = attack.attack(config, directory.path)
  named = {name.removeprefix("attacks/"): value for name, value in found.items()}
  shown = {name: value for name, value in named.items() if "/" not in name or name.startswith("judge/all/")}
  rich.console.Console().print(metrics_table(shown))
  print(json.dumps({"model": config.model.path, **found, "report": str(directory.path / "report.html")}))


if __name__ == "__main__":
  flags.run(main, default="red_team")
