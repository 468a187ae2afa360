"""Tests the list of a program's flags."""

import subprocess
import sys
from pathlib import Path

from absl import flags

from experiments import flag_help

ROOT = Path(__file__).resolve().parents[2]


def test_flags_come_in_groups_with_defaults_and_choices():
  values = flags.FlagValues()
  model = flags.DEFINE_string("model", None, "workdir or name", flag_values=values)
  which = flags.DEFINE_enum("which", None, ["latest", "best"], "which of a workdir", flag_values=values)
  mode = flags.DEFINE_enum("mode", "a", ["a", "b"], "what is timed", flag_values=values)
  texts = flags.DEFINE_multi_string("texts", [], "may be repeated", flag_values=values)
  count = flags.DEFINE_integer("count", 8, "how many", lower_bound=1, flag_values=values)
  chat = flags.DEFINE_bool("chat", False, "whether " + "word " * 30, flag_values=values)
  own = [values[holder.name] for holder in (model, which, mode, texts, count, chat)]
  shown = list(flag_help.lines(own, {"draws": [count, texts]}, required=["model"]))
  assert shown[1:] == [
    "  --model=TEXT  (required)",
    "      workdir or name",
    "  --which=latest|best",
    "      which of a workdir",
    "  --mode=a",
    "      what is timed: a, b",
    "  --chat=false",
    *(line for line in shown if line.startswith(("      whether", "      word"))),
    "\ndraws",
    "  --count=8",
    "      how many",
    "  --texts=TEXT",
    "      may be repeated",
  ]
  assert max(map(len, shown)) <= 118


def test_every_binary_says_what_each_of_its_flags_means():
  for program, name in (("evaluate", "how answers are drawn"), ("score", "greedy continuations of a language model")):
    command = [sys.executable, "-m", f"experiments.{program}", "--help"]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (
      child.returncode == 0 and f"\n\n{name}\n  --" in child.stdout and "\n  --model=TEXT  (required)\n" in child.stdout
    )
    assert str(ROOT) not in child.stdout  # absl's list names the file
