"""Reads a config from a JSON file, such as a run's config.json.

So a run can be repeated in another directory, or with one change:

python -m experiments.dapo --config=configs/from_json.py:runs/dapo/config.json --config.seed=1 --workdir=runs/again
"""

import json
import pathlib

from ml_collections import ConfigDict


def get_config(arg: str) -> ConfigDict:
  content = json.loads(pathlib.Path(arg).read_text(encoding="utf-8"))
  content.pop("digests", None)  # digests of the files that the run read are not config fields
  return ConfigDict(_tuples(content))


def _tuples(value):
  """Turns lists into tuples, because JSON has no tuples and configs have no lists."""
  if isinstance(value, dict):
    return {key: _tuples(item) for key, item in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value
