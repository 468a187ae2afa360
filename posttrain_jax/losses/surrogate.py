"""Marks surrogates whose loss of a token depends on that token alone.

A chunk of tokens is enough for such a surrogate, so `losses.fused_loss` can make its gradient in the forward pass. Any
other surrogate needs all tokens of a row at once: cut into chunks it would get a wrong gradient, without an error. So
the mark stands at the function itself, and a function without it takes the path that is right for all.
"""

from collections.abc import Callable

import jax


def per_token_surrogate(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
  """Marks the decorated surrogate: its loss of a token depends on that token alone."""
  function.is_per_token = True
  return function


def is_per_token(function: Callable[..., jax.Array]) -> bool:
  """Returns True if a surrogate is marked.

  A mark that `functools.wraps` copied does not count: the wrapper may look at other tokens.
  """
  return getattr(function, "is_per_token", False) and not hasattr(function, "__wrapped__")
