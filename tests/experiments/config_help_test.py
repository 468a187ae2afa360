"""Tests that --help explains the fields of a config, wherever the comment stands."""

import pathlib

import pytest

from configs import own_task, smollm2_dpo, tiny_dapo, tiny_dpo, tiny_ppo, tiny_reward_model, tiny_sft
from experiments import config_help
from experiments.arguments import flatten

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMED_BY_THE_USER = ("logging.console.", "warmup.logging.console.", "objective.options.", "meshes.")


@pytest.mark.parametrize(
  ("module", "arg"),
  [(module, "") for module in (smollm2_dpo, tiny_dapo, tiny_dpo, tiny_ppo, tiny_reward_model, tiny_sft)]
  + [(own_task, arg) for arg in ("sft", "dpo", "rl_smollm2")],
)
def test_every_field_is_explained(module, arg):
  fields = flatten(module.get_config(arg))
  comments = config_help.of_file(module.__file__, arg)
  missing = [name for name in fields if config_help._find(comments, tuple(name.split("."))) is None]
  assert [name for name in missing if not name.startswith(NAMED_BY_THE_USER)] == []


def test_a_field_has_the_comment_of_its_own_section():
  comments = config_help.of_file(str(ROOT / "configs" / "tiny_dapo.py"))
  assert comments[("steps",)] == "a step is one rollout and the updates on it"
  assert comments[("warmup", "steps")].startswith("optimiser updates; 0 with epochs")
  assert "none, dots, attention, full, or host" in comments[("model", "remat")]
  assert comments[("mesh",)].startswith("devices along each axis")
  by_arg = [config_help.of_file(str(ROOT / "configs" / "own_task.py"), arg)[("steps",)] for arg in ("sft", "rl")]
  assert by_arg[0].startswith("optimiser updates") and by_arg[1].startswith("a step is one rollout")


def test_fields_come_in_groups(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(
    "from ml_collections import ConfigDict\n\ndef part():\n  return ConfigDict(dict(x=1))\n\n"
    "def get_config(arg=''):\n  config = ConfigDict()\n  config.a = dict(  # the group\n    b=1,  # one of 1 or 2\n"
    "  )\n  # the last\n  config.z = 3\n  config.p = part()\n  return config\n"
  )
  shown = list(config_help.lines({"a.b": 1, "p.x": 1, "z": 3}, f"{file}:arg"))
  assert shown[1:] == [
    "  --config.z=3",
    "      the last",
    "\na: the group",
    "  --config.a.b=1",
    "      one of 1 or 2",
    "\np",
    "  --config.p.x=1",
  ]


def test_a_file_that_is_no_python_has_no_comments(tmp_path):
  file = tmp_path / "bad.py"
  file.write_text("def get_config(:")
  assert config_help.of_file(str(file)) == {} and config_help.of_file(str(tmp_path / "absent.py")) == {}
