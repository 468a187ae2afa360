"""Decides where a server may listen, and reads the token that its clients must show."""

import ipaddress
import os
import pathlib

from posttrain_jax.types import InputError

TOKEN_VARIABLE = "POSTTRAIN_JAX_TOKEN"
_SHORTEST = 16  # characters of a token


def is_loopback(host: str) -> bool:
  """Says whether only programs on this machine reach a host name or address."""
  try:
    return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
  except ValueError:
    return False


def check_binding(host: str, token: str | None) -> None:
  """Refuses to listen to other machines without a token.

  Raises:
    InputError: if the host is not a loopback address and there is no token, or if the token is too short.
  """
  if token is None and not is_loopback(host):
    raise InputError(
      f"--host={host}: other machines could connect, expected a token as well (--token=FILE or {TOKEN_VARIABLE}), "
      "or localhost"
    )
  if token is not None and len(token) < _SHORTEST:
    raise InputError(f"token: {len(token)} characters, expected at least {_SHORTEST}")


def read_token(file: str | None) -> str | None:
  """Reads the token from a file, or else from the environment; None if there is neither.

  Raises:
    InputError: if the file cannot be read, or the token has other characters than a header may have.
  """
  if file is None:
    token = os.environ.get(TOKEN_VARIABLE)
    where = TOKEN_VARIABLE
  else:
    where = f"--token={file}"
    try:
      token = pathlib.Path(file).expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
      raise InputError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
  if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
    raise InputError(f"{where}: expected a token of printable ASCII characters without a space")
  return token
