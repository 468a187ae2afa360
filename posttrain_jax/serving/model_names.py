"""Finds the names under which models are served."""

import pathlib
import re
from collections.abc import Sequence

from posttrain_jax.types import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def named_models(given: Sequence[str]) -> dict[str, str]:
  """Returns the paths of models by name.

  Args:
    given: NAME=PATH, or PATH_OR_NAME, whose name is the last part of the path.

  Raises:
    InputError: if two have the same name, or a name has other characters than letters, digits, dots and dashes.
  """
  found: dict[str, str] = {}
  for each in given:
    name, equals, path = each.partition("=")
    if not equals or "/" in name:
      name, path = pathlib.Path(each).expanduser().resolve().name, each
    if not _NAME.fullmatch(name) or not path:
      raise InputError(
        f"--model={each}: expected PATH_OR_NAME or NAME=PATH, the name of letters, digits, '.', '_', '-'"
      )
    if name in found:
      raise InputError(f"--model={each}: two models are called {name}, expected NAME=PATH for one of them")
    found[name] = path
  return found
