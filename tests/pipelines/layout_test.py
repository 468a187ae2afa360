"""Tests how a run's programs lie on a mesh of fsdp 2 x tensor 2.

The compiled text is read, on CPUs and for v5e:2x2.

Nothing here asks for a certain number of collectives. A layout that was lost shows as a gather, a sum or an array that
is missing, or is of the wrong size; every size of the model is different, and no row of tokens has as many tiles as the
model has layers, so that shapes tell what an array is.
"""

import functools
import importlib.util
import itertools

import jax
import ml_collections
import pytest

from configs import tiny_dapo
from posttrain_jax.performance.compile import compiled, proof, topology
from posttrain_jax.performance.compile.programs_of_a_run import parse_method, programs_of_run

L, D, F, N, K, H, V = 5, 64, 160, 4, 2, 128, 6144
PROMPTS, GROUP, PROMPT_LENGTH, LENGTH, CHUNK, SLOTS = 4, 2, 10, 24, 16, 32
# Long enough that a cache of 128 numbers a head lies on a TPU as a large one does.
CACHED, PROMPTS_CACHED = 2048, 1024
FSDP, TENSOR = 2, 2
# The warning that XLA prints where it can only change a layout by gathering the whole array on every device.
REMATERIALIZED = "Involuntary full rematerialization"


def config() -> ml_collections.ConfigDict:
  config = tiny_dapo.get_config()
  sizes = dict(vocab_size=V, num_layers=L, embed_dim=D, mlp_dim=F, num_heads=N, num_kv_heads=K, head_dim=H)
  config.model.update(**sizes, remat="full", unroll=1, compute_dtype="bfloat16")
  config.mesh.update(data=1, fsdp=FSDP, tensor=TENSOR)
  lengths = dict(max_prompt_length=PROMPT_LENGTH, max_new_tokens=LENGTH, steps_per_dispatch=4)
  config.rollout.update(groups=PROMPTS, group_size=GROUP, slots=SLOTS, **lengths)
  config.learner.updates_per_step = 1
  config.objective.logprob_chunk = CHUNK
  return config


@functools.cache
def text_of(platform: str, name: str, width: int = H) -> str:
  devices = jax.devices()[:4] if platform == "cpu" else topology.devices("v5e:2x2")
  chosen = config()
  if name in ("decode", "prefill"):
    chosen.rollout.update(max_new_tokens=CACHED, max_prompt_length=PROMPTS_CACHED)
    # Two heads of keys on a device, and not one.
    chosen.model.update(num_heads=2 * N, num_kv_heads=2 * K, head_dim=width)
  run = programs_of_run(parse_method(chosen), proof.policy_of(parse_method(chosen).model, ""), devices)
  return proof.lower(run.programs[name]).compile().as_text()


@pytest.fixture(
  params=[
    "cpu",
    pytest.param(
      "tpu",
      marks=pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: launch/README.md"
      ),
    ),
  ]
)
def platform(request):
  return request.param


def squeezed(array: compiled.Array) -> tuple[int, ...]:
  """Returns the shape in a fixed order, without axes of one."""
  return tuple(sorted(size for size in array.shape if size != 1))


def pieces(*shape: int) -> set[tuple[int, ...]]:
  """Lists the shapes of a parameter on one device: split as stored, and gathered over fsdp."""
  return {squeezed(compiled.Array("f32", each)) for each in itertools.product(*((n, n // 2) for n in shape))}


def test_an_update(platform, capfd):
  text = text_of(platform, "update_on_policy")
  assert REMATERIALIZED not in capfd.readouterr().err
  found = compiled.instructions(text)
  collectives = compiled.collectives(found)

  # Of each matrix of a layer its gathered form, split over `tensor` only, is made by a collective in the layers' loop,
  # and so is the sum of its gradient over the rows' shards.
  matrices = [(D, N // TENSOR, H), (D, K // TENSOR, H), (D, F // TENSOR)]
  wanted = {squeezed(compiled.Array("f32", matrix)) for matrix in matrices}
  for kinds in (("all-gather", "collective-permute"), ("all-reduce", "reduce-scatter")):
    made = {squeezed(a) for each in collectives if each.kind in kinds and each.depth for a in each.arrays}
    assert wanted <= made, (kinds, wanted - made)

  # Of all layers at once no matrix is gathered, neither over fsdp nor whole.
  arrays = {array for each in found for array in each.arrays}
  for matrix in ((D, N, H), (D, K, H), (D, F)):
    for heads in (matrix[1], matrix[1] // TENSOR):
      whole = squeezed(compiled.Array("f32", (L, D, heads, *matrix[2:])))
      assert whole not in {squeezed(array) for array in arrays}

  # What has the vocabulary as an axis is the table, or the logits of one chunk; only the table travels.
  table = pieces(V, D)
  of_vocabulary = {array for array in arrays if {V, V // TENSOR} & set(array.shape)}
  assert of_vocabulary
  for array in of_vocabulary:
    assert squeezed(array) in table or array.size <= CHUNK * V // TENSOR or array.size <= V, array
  for each in collectives:
    for array in each.arrays:
      if {V, V // TENSOR} & set(array.shape):
        assert squeezed(array) in table and squeezed(array) != squeezed(compiled.Array("f32", (V, D))), each
  tokens = PROMPTS * GROUP * LENGTH // FSDP
  assert max(array.size for array in arrays) < tokens * V // TENSOR


@pytest.mark.parametrize("width", [H, H // 2])
def test_decoding_updates_its_cache_in_place(platform, width):
  if platform == "cpu" and width != H:
    return  # only for the lanes of a TPU's vectors is there a difference
  text = text_of(platform, "decode", width)
  found = compiled.instructions(text)
  arrays = 2 * L if platform == "cpu" else L  # keys and values of a layer, or both in one
  a_token = SLOTS // FSDP * 2 * K // TENSOR * 2 * width * L // arrays
  prompts = a_token * PROMPTS_CACHED  # with two answers a prompt there is room for as many as slots
  cache = a_token * CACHED + prompts  # pages of an array
  in_loop = [each for each in found if each.depth and any(array.size >= prompts for array in each.arrays)]
  assert in_loop  # the cache is in the loop
  parameters = [each for each in found if each.opcode == "parameter" and each.depth == 0]
  entry = parameters[-1].computation
  numbered = [each for each in parameters if each.computation == entry and each.arrays[0].size == cache]
  assert len(numbered) == arrays
  assert len(compiled.aliased_parameters(text)) >= arrays + 5  # and the slots' state
  collectives = compiled.collectives(found)
  assert collectives  # sums over heads: the mesh is real
  # Keys are written and prompts are found on the device of the slot: of all slots, only a few numbers each travel.
  for each in collectives:
    whole = [array for array in each.arrays if each.depth and SLOTS in array.shape]
    assert all(array.size <= 2 * SLOTS for array in whole), each
  # What is fetched ahead into fast memory is a copy-start; a copy changes the layout.
  assert [each for each in in_loop if each.opcode == "copy"] == []
  # Both lists of pages of each layer are read by the kernel.
  kernels = [each for each in found if each.depth and each.opcode == "custom-call" and "read_pages" in each.operation]
  assert len(kernels) == (0 if platform == "cpu" else 2 * L)


def test_a_prefill_updates_its_cache_in_place(platform):
  text = text_of(platform, "prefill")
  found = compiled.instructions(text)
  arrays = 2 * L if platform == "cpu" else L  # keys and values of a layer, or both in one
  a_token = SLOTS // FSDP * 2 * K // TENSOR * 2 * H * L // arrays
  cache = a_token * (CACHED + PROMPTS_CACHED)  # pages of an array
  large = [each for each in found if any(array.size >= cache for array in each.arrays)]
  assert len([each for each in large if each.opcode == "parameter" and each.depth == 0]) >= arrays
  assert len(compiled.aliased_parameters(text)) >= arrays
  assert [each for each in large if each.opcode in ("copy", "all-gather", "all-reduce")] == []
