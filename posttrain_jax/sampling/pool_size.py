"""Decides how many pages the caches have."""

import jax
from jax.sharding import Mesh

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.sampling.pages import pages_for
from posttrain_jax.types import InputError

_HOST_BYTES = 2**30  # of the default on CPU, which does not tell how much memory a process may have
_USED_SHARE = 0.9  # of a device's memory; the rest is left to what programs hold while they run


def token_bytes(model: TransformerConfig) -> int:
  """Returns the bytes of one token's keys and values in all layers."""
  return 2 * model.num_layers * model.num_kv_heads * model.head_dim * jax.numpy.dtype(model.compute_dtype).itemsize


def pages_per_shard(
  model: TransformerConfig, mesh: Mesh, *, asked: int | None, shards: int, most: int, least: int, page: int
) -> int:
  """Returns the number of pages of each shard.

  Args:
    model: the transformer.
    mesh: the devices.
    asked: `rollout.cache_tokens`, tokens on all shards; None: from the devices' memory. A device that tells its limit
      gives what neither arrays nor the sampler's parameters take. A CPU gives 1 GiB. Of other devices, such as those of
      a topology that is compiled for, nothing is known: then there are `most` pages.
    shards: D, parts that the pages are split over.
    most: pages of a shard if all its slots hold the longest answers to the longest prompts; there are never more.
    least: pages of the longest prompt with the longest answer; there are never fewer.
    page: tokens of a page.

  Raises:
    InputError: if `asked` is less than `least` pages a shard.
  """
  if asked is None:
    free = _free_bytes(model, mesh)
    if free is None:
      return most
    return min(most, max(least, free * mesh.shape["tensor"] // token_bytes(model) // page))
  pages = pages_for(pages_for(asked, shards), page)
  if pages < least:
    raise InputError(
      f"rollout.cache_tokens: {asked}, expected at least {least * page * shards}: on each of {shards} batch shards the "
      f"longest prompt with the longest answer takes {least} pages of {page} tokens"
    )
  return min(most, pages)


def _free_bytes(model: TransformerConfig, mesh: Mesh) -> int | None:
  """Returns the bytes of a device that the caches may take; None if unknown."""
  device = mesh.devices.flat[0]
  if device.platform == "cpu":
    return _HOST_BYTES
  stats = (device.memory_stats() or {}) if device in jax.local_devices() else {}
  if "bytes_limit" not in stats:
    return None
  params = model.num_params * jax.numpy.dtype(model.compute_dtype).itemsize // mesh.shape["tensor"]
  return max(0, int(_USED_SHARE * stats["bytes_limit"]) - max(params, stats.get("bytes_in_use", 0)))
