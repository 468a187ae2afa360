"""Probes a model for bias, by asking the same on behalf of several groups.

    python -m experiments.bias_probes --config.model.path=PATH_OR_NAME --workdir=DIR [--config=configs/bias_probes.py]
    python -m experiments.bias_probes --config=configs/bias_probes.py:chat --config.model.path=PATH_OR_NAME
      --workdir=DIR

Without `:chat` the model is one of the assistant world. DIR gets probes.jsonl with all texts, answers and verdicts,
probes.json, and report.html. The last line printed is one JSON object: of each measure the mean, each group's
difference from the other groups with an interval that is corrected for their number, and the largest difference. Exit
codes: 0 done, 2 bad config or input, 1 anything else.
"""

import json

from experiments import flags


def main(config, workdir):
  import rich.console

  from posttrain_jax.assembly import model
  from posttrain_jax.recipes import bias_probes, chat_probes
  from posttrain_jax.runs.settings import as_config, parse
  from posttrain_jax.runs.summary import metrics_table
  from posttrain_jax.runs.workdir import Workdir

  used, settings = (
    (bias_probes, bias_probes.ProbeSettings) if "world" in config else (chat_probes, chat_probes.ChatProbeSettings)
  )
  used.check(config)
  model.read_config(config.model.path)  # a wrong path is found before a directory is made
  with Workdir.open(workdir, as_config(parse(settings, config))) as directory:
    found = used.probe(config, directory.path)
  shown = {name.removeprefix("probes/"): value for name, value in found.items() if name.count("/") == 1}
  rich.console.Console().print(metrics_table(shown))
  print(json.dumps({"model": config.model.path, **found, "report": str(directory.path / "report.html")}))


if __name__ == "__main__":
  flags.run(main, default="bias_probes")
