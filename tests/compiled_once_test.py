import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax import compiled_once


@dataclasses.dataclass(frozen=True)
class Settings:
  width: int


@compiled_once.made_once
def make(settings, *, scale=1.0):
  return lambda x: x * settings.width * scale


def times(factor, x, *, shift=0):
  return factor * x + shift


def test_equal_arguments_give_the_same_function():
  assert make(Settings(2)) is make(Settings(2))
  assert make([Settings(2), {"a": 3}]) is make([Settings(2), {"a": 3}])


def test_other_arguments_give_another_function():
  made = [make(Settings(2)), make(Settings(3)), make(Settings(2), scale=2.0), make([Settings(2)]), make((Settings(2),))]
  assert len(set(map(id, made))) == len(made)
  assert made[1](5) == 15 and made[2](5) == 20


def test_numbers_that_are_equal_and_of_different_kinds_are_told_apart():
  made = [compiled_once.jit(functools.partial(times, factor)) for factor in (1, 1.0, True)]
  assert len(set(map(id, made))) == 3
  assert [f(np.int32(3)).dtype for f in made] == [jnp.int32, jnp.float32, jnp.int32]


def test_partials_are_compared_by_what_they_hold():
  one = compiled_once.jit(functools.partial(times, 2.0, shift=1.0))
  assert one is compiled_once.jit(functools.partial(times, 2.0, shift=1.0))
  assert one is not compiled_once.jit(functools.partial(times, 2.0, shift=3.0))
  assert one is not compiled_once.jit(functools.partial(times, 2.0, shift=1.0), donate_argnums=0)
  assert one(3.0) == 7.0


def test_an_array_is_refused():
  with pytest.raises(TypeError, match="unhashable"):
    make(np.zeros(3))


def test_nothing_is_left_after_forgetting():
  before = make(Settings(7))
  compiled_once.forget()
  assert make(Settings(7)) is not before


def test_the_second_of_equal_programs_is_not_compiled():
  def run():
    return compiled_once.jit(functools.partial(times, 4.0))(jnp.ones((3,)))

  run()
  with jax.log_compiles(), pytest.MonkeyPatch.context() as patch:
    patch.setattr("jax._src.compiler.compile_or_get_cached", lambda *args, **kwargs: pytest.fail("compiles"))
    np.testing.assert_array_equal(run(), 4.0)
