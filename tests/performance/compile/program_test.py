import jax
import numpy as np

from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.performance.compile.program import Program, shapes


def test_shapes_hold_no_values():
  found = shapes({"tokens": np.zeros((2, 3), np.int32), "mask": (np.ones(4, bool), None)})
  assert found == {
    "tokens": jax.ShapeDtypeStruct((2, 3), np.int32),
    "mask": (jax.ShapeDtypeStruct((4,), np.bool_), None),
  }


def test_a_program_frees_the_rollouts_caches_unless_it_says_otherwise():
  mesh = make_mesh({"fsdp": -1})
  program = Program(jax.jit(lambda x: x), (), mesh, calls=1, flops=0, takes=("policy",))
  assert program.frees == ("caches", "pool")
  assert not set(program.frees) & set(program.takes)
