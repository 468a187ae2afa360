"""Says what to install where the packages of the extra `serve` are missing."""

import importlib.util

from posttrain_jax.types import InputError

_PACKAGES = ("httptools", "prometheus_client", "starlette", "uvicorn")


def check_installed(what: str) -> None:
  """Refuses to go on without the packages that serve pages and requests.

  Args:
    what: needs them.

  Raises:
    InputError: if one of them is missing.
  """
  missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
  if missing:
    raise InputError(f"{what} needs {', '.join(missing)}: pip install 'posttrain_jax[serve]'")
