"""Tests that what configs show on the terminal of evaluations is measured by the sets that they evaluate."""

import importlib
import pathlib
import re

import ml_collections
import pytest

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
_NO_RUN = {"__init__", "from_json", "dapo_ablation"}  # no config of a run by themselves
_METHODS = {"own_task": ("sft", "dpo", "rl")}  # configs of several methods
NAMES = sorted(
  f"{path.stem}:{method}"
  for path in CONFIGS.glob("*.py")
  for method in _METHODS.get(path.stem, ("",))
  if path.stem not in _NO_RUN
)


def runs(config):
  """Yields (section, console) of a config's run, and of its warm-up, which has the same evaluation sets."""
  yield config, config.logging.get("console", {})
  warmup = config.get("warmup", None)
  if warmup is not None and (warmup.steps or warmup.epochs):
    yield warmup, warmup.logging.console


def unknown(section, config, name):
  """Tells whether no evaluation of a run has a metric."""
  match = re.fullmatch(r"eval/([^/]+)/(.+)", name)
  if match is None:
    return False
  group, metric = match.groups()
  sets = config.eval.get("sets", {})
  group = group.removesuffix("_average") if "average" in config else group  # PPO evaluates the average, too
  if group not in sets:
    text = "corpus" if "corpus" in section else "demonstrations"
    data = {"validation": text, "heldout": "preferences", "preferences": "preferences"}.get(group)
    kept = data in section and (section[data].held_out or (section[data].path and config.eval.own_share))
    # A judge has two readings; the study of forgetting validates on plain text.
    return not (kept or group in ("sampled", "expected") or (group == "validation" and "plain" in config))
  count = re.fullmatch(r"(?:avg|maj|pass)@(\d+)", metric)
  return count is not None and metric.startswith(("avg", "maj")) and int(count[1]) != sets[group].samples


@pytest.mark.parametrize("name", NAMES)
def test_every_shown_evaluation_is_measured(name):
  module, method = name.split(":")
  config = importlib.import_module(f"configs.{module}").get_config(method)
  if "logging" not in config:
    pytest.skip("a study, not a run")
  shown = [(section, key) for section, console in runs(config) for key in console]
  assert [key for section, key in shown if unknown(section, config, key)] == []


def test_a_key_of_another_set_is_found():
  sets = {"heldout": {"samples": 8}}
  config = ml_collections.ConfigDict({"eval": {"sets": sets}, "demonstrations": {"held_out": 0.0, "path": ""}})
  keys = ("loss", "eval/heldout/avg@8", "eval/heldout/avg@4", "eval/other/avg@8", "eval/validation/loss")
  assert [key for key in keys if unknown(config, config, key)] == list(keys[2:])
