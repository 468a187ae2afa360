import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.performance.compile.program import Program, bytes_per_device, shapes
from posttrain_jax.performance.counts import Copy


def test_shapes_hold_no_values():
  found = shapes({"tokens": np.zeros((2, 3), np.int32), "mask": (np.ones(4, bool), None)})
  assert found == {
    "tokens": jax.ShapeDtypeStruct((2, 3), np.int32),
    "mask": (jax.ShapeDtypeStruct((4,), np.bool_), None),
  }


def test_a_program_frees_what_a_rollout_holds_unless_it_says_otherwise():
  mesh = make_mesh({"fsdp": -1})
  program = Program(jax.jit(lambda x: x), (), mesh, calls=1, work=Copy(0), takes=("policy",))
  assert program.frees == ("caches", "sampler")
  assert not set(program.frees) & set(program.takes)


def test_bytes_of_the_shards_on_a_device():
  mesh = make_mesh({"fsdp": 4, "tensor": 2})
  split = jax.ShapeDtypeStruct((8, 6), np.float32, sharding=NamedSharding(mesh, PartitionSpec("fsdp", "tensor")))
  whole = jax.ShapeDtypeStruct((8,), np.int8, sharding=NamedSharding(mesh, PartitionSpec()))
  assert bytes_per_device({"split": split, "whole": whole}) == 2 * 3 * 4 + 8
