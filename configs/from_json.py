"""A config that was written as JSON, such as a run's config.json: the same run again, elsewhere or with one change.

python -m experiments.dapo --config=configs/from_json.py:runs/dapo/config.json --config.seed=1 --workdir=runs/again
"""

import json
import pathlib

from ml_collections import ConfigDict


def get_config(arg: str) -> ConfigDict:
  content = json.loads(pathlib.Path(arg).read_text(encoding="utf-8"))
  content.pop("digests", None)  # of the files that the run read
  return ConfigDict(_tuples(content))


def _tuples(value):
  """JSON has lists only; configs have tuples."""
  if isinstance(value, dict):
    return {key: _tuples(item) for key, item in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value
