"""Says which stored tensor of a Hugging Face checkpoint is which parameter.

Reading and writing use the same table.

There is one table, `sources`. `match` finds a checkpoint's tensors by it, `assemble` makes our parameters of them, and
`disassemble` makes stored tensors of our parameters. Matrices are stored as [out, in], one tensor a layer. Ours are
[in, out] with heads split, and layers are stacked.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.types import InputError

ParamPath = tuple[str, ...]
ReadLayer = Callable[[int | None], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Stored:
  """Describes a tensor that has not been read yet.

  Attributes:
    file: the file that holds the tensor.
    name: the tensor's name in that file.
    shape: the tensor's shape in the file.
    dtype: the dtype of what `read` returns: "float32", "bfloat16", "float16" or "float64".
    read: reads the tensor; returns a float array of that shape.
  """

  file: pathlib.Path
  name: str
  shape: tuple[int, ...]
  dtype: str
  read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Source:
  """Describes the stored tensor of a parameter in a Hugging Face checkpoint.

  Attributes:
    name: the tensor's name; in parameters of layers, `{layer}` stands for the layer's number.
    stored: shape of the stored tensor.
    shape: shape of our parameter, without the layer axis.
    transposed: the tensor is stored as [out, in] and our parameter is [in, out] (before in and out are split into
      heads).
  """

  name: str
  stored: tuple[int, ...]
  shape: tuple[int, ...]
  transposed: bool


def sources(config: TransformerConfig) -> dict[ParamPath, Source]:
  """Maps the path of every parameter in the transformer's state to its stored tensor.

  The bias of a scalar head is left out, because Hugging Face's head has no bias.
  """
  d, f, v, h = config.embed_dim, config.mlp_dim, config.vocab_size, config.head_dim
  queries, keys = (config.num_heads, h), (config.num_kv_heads, h)

  def vector(name, *shape):
    return Source(name, (math.prod(shape),), shape, False)

  def linear(name, inputs, outputs):
    return Source(f"{name}.weight", (math.prod(outputs), math.prod(inputs)), (*inputs, *outputs), True)

  layer = "model.layers.{layer}"
  table = {
    ("embed",): Source("model.embed_tokens.weight", (v, d), (v, d), False),
    ("blocks", "attention_norm", "scale"): vector(f"{layer}.input_layernorm.weight", d),
    ("blocks", "attention", "query"): linear(f"{layer}.self_attn.q_proj", (d,), queries),
    ("blocks", "attention", "key"): linear(f"{layer}.self_attn.k_proj", (d,), keys),
    ("blocks", "attention", "value"): linear(f"{layer}.self_attn.v_proj", (d,), keys),
    ("blocks", "attention", "out"): linear(f"{layer}.self_attn.o_proj", queries, (d,)),
    ("blocks", "mlp_norm", "scale"): vector(f"{layer}.post_attention_layernorm.weight", d),
    ("blocks", "mlp", "gate"): linear(f"{layer}.mlp.gate_proj", (d,), (f,)),
    ("blocks", "mlp", "up"): linear(f"{layer}.mlp.up_proj", (d,), (f,)),
    ("blocks", "mlp", "down"): linear(f"{layer}.mlp.down_proj", (f,), (d,)),
    ("final_norm", "scale"): vector("model.norm.weight", d),
  }
  if config.qkv_bias:
    table["blocks", "attention", "query_bias"] = vector(f"{layer}.self_attn.q_proj.bias", *queries)
    table["blocks", "attention", "key_bias"] = vector(f"{layer}.self_attn.k_proj.bias", *keys)
    table["blocks", "attention", "value_bias"] = vector(f"{layer}.self_attn.v_proj.bias", *keys)
  if config.qk_norm:
    table["blocks", "attention", "query_norm", "scale"] = vector(f"{layer}.self_attn.q_norm.weight", h)
    table["blocks", "attention", "key_norm", "scale"] = vector(f"{layer}.self_attn.k_norm.weight", h)
  if config.scalar_head:
    table["score",] = Source("score.weight", (1, d), (d,), False)
  elif not config.tied:
    table["head",] = linear("lm_head", (d,), (v,))
  return table


def match(
  config: TransformerConfig,
  found: Mapping[str, Stored],
  where: pathlib.Path,
  spell: Callable[[str], str] = lambda name: name,
) -> dict[str, Stored]:
  """Checks a checkpoint's tensors against the table, without reading them.

  Args:
    config: the transformer.
    found: the checkpoint's tensors, by the checkpoint's names.
    where: the checkpoint's path, for messages.
    spell: turns Hugging Face's name of a tensor into the checkpoint's name.

  Returns:
    The tensors by Hugging Face's names, layer by layer.

  Raises:
    InputError: if a tensor is missing, unknown or of another shape; the message names the file and the tensor.
  """
  unknown, matched = dict(found), {}
  for source, name in _in_order(config).values():
    spelled = spell(name)
    stored = unknown.pop(spelled, None)
    if stored is None:
      raise InputError(f"{where}: tensor {spelled!r} is missing, expected with shape {list(source.stored)}")
    if stored.shape != source.stored:
      raise InputError(
        f"{stored.file}: tensor {spelled!r} has shape {list(stored.shape)}, expected {list(source.stored)}"
      )
    matched[name] = stored
  for name, stored in unknown.items():
    raise InputError(f"{stored.file}: tensor {name!r} has no place in this architecture")
  return matched


def assemble(config: TransformerConfig, tensors: Mapping[str, Stored]) -> dict[ParamPath, np.ndarray]:
  """Makes our parameters from stored tensors.

  Apart from the result, one tensor at a time is in memory.

  Args:
    config: the transformer.
    tensors: what `match` returned.

  Returns:
    float32 arrays by path in the transformer's state; those under "blocks" have a leading layer axis. The bias of a
    scalar head is not among them.

  Raises:
    InputError: if a tensor holds NaN or infinity.
  """
  table = sources(config)
  layers = {path: (config.num_layers,) if path[0] == "blocks" else () for path in table}
  arrays = {path: np.empty((*layers[path], *source.shape), np.float32) for path, source in table.items()}
  for (path, layer), (source, name) in _in_order(config).items():
    stored = tensors[name]
    array = stored.read()
    if not np.isfinite(array).all():
      raise InputError(f"{stored.file}: tensor {stored.name!r} holds NaN or infinity, expected finite numbers")
    arrays[path][... if layer is None else layer] = (array.T if source.transposed else array).reshape(source.shape)
  return arrays


def disassemble(
  config: TransformerConfig, params: Mapping[ParamPath, ReadLayer], where: pathlib.Path
) -> dict[str, Stored]:
  """Makes stored tensors from our parameters, without reading them.

  Args:
    config: the transformer.
    params: by path in the transformer's state, a function that reads one layer of a float32 parameter under "blocks",
      or the whole of another one, which is layer None.
    where: the file or directory that holds the parameters.

  Returns:
    The tensors by Hugging Face's names, layer by layer.
  """

  def read(source, path, layer):
    array = params[path](layer)
    return array.reshape(source.stored[::-1]).T if source.transposed else array.reshape(source.stored)

  return {
    name: Stored(where, name, source.stored, "float32", functools.partial(read, source, path, layer))
    for (path, layer), (source, name) in _in_order(config).items()
  }


def _in_order(config: TransformerConfig) -> dict[tuple[ParamPath, int | None], tuple[Source, str]]:
  """Maps (path, layer) to (source, tensor's name): the embeddings, layer after layer, then the rest."""
  table = sources(config)
  blocks = [path for path in table if path[0] == "blocks"]
  layers = [(path, layer) for layer in range(config.num_layers) for path in blocks]
  rest = [(path, None) for path in table if path[0] != "blocks"]
  return {
    (path, layer): (table[path], table[path].name.format(layer=layer)) for path, layer in [rest[0], *layers, *rest[1:]]
  }
