"""Refuses bad input, and imports JAX only then, which workers do not need."""

from typing import NoReturn


def refuse(text: str) -> NoReturn:
  """Raises InputError with one line: what, where, and what was expected."""
  from posttrain_jax.types import InputError  # imports JAX

  raise InputError(text)


def check_share(name: str, value: float) -> None:
  """Checks a share of something.

  Raises:
    InputError: if it is not between 0 and 1.
  """
  if not 0 <= value <= 1:
    refuse(f"{name}: {value}, expected a share from 0 to 1")
