"""Makes each program once in a process: equal arguments give the same jitted function.

A program that is made anew is traced, lowered and compiled anew, also if an equal one ran before. So runs that follow
each other in one process, such as the stages of a study or the tests of a file, would each compile what the one before
them compiled.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax

_KEPT = 64  # results of each maker; a program that was not used for longer is dropped

P = ParamSpec("P")
Made = TypeVar("Made")

_makers: list[Callable[[], None]] = []


def made_once(make: Callable[P, Made]) -> Callable[P, Made]:
  """Wraps a function so that equal arguments give the object made before.

  What it makes must depend on its arguments alone. They are hashable (records, graphs, meshes, functions), or pytrees
  of such. Functions are equal if they are the same object, so a loss should come from a maker that is wrapped too.

  Raises:
    TypeError: when called with an array or another argument that cannot be hashed.
  """

  @functools.lru_cache(maxsize=_KEPT)
  def from_key(structure: Any, leaves: tuple, kinds: tuple[type, ...]) -> Made:
    del kinds  # 1, 1.0 and True are equal, and programs made from them are not
    args, options = jax.tree.unflatten(structure, leaves)
    return make(*args, **options)

  @functools.wraps(make)
  def once(*args: P.args, **options: P.kwargs) -> Made:
    leaves, structure = jax.tree.flatten((args, options))
    return from_key(structure, tuple(leaves), tuple(map(type, leaves)))

  _makers.append(from_key.cache_clear)
  return once


@made_once
def _jit(function: Callable, bound: tuple, named: dict[str, Any], options: dict[str, Any]) -> jax.stages.Wrapped:
  return jax.jit(functools.partial(function, *bound, **named), **options)


def jit(function: Callable, **options: Any) -> jax.stages.Wrapped:
  """Jits a function as `jax.jit` does, once for equal functions and options.

  Args:
    function: a function, or a `functools.partial` of one with arguments that `made_once` can compare.
    **options: those of `jax.jit`.
  """
  if isinstance(function, functools.partial):
    return _jit(function.func, function.args, function.keywords, options)
  return _jit(function, (), {}, options)


def forget() -> None:
  """Drops all that was made, so that programs are compiled again.

  This is for a process that changes the compiler's settings.
  """
  for clear in _makers:
    clear()
