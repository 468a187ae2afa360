"""Reads Hugging Face directories of Llama, SmolLM2, Qwen2, Qwen2.5 and Qwen3.

A directory has `config.json` and safetensors. It holds a language model (such as `LlamaForCausalLM`) or a reward model
(such as `LlamaForSequenceClassification`, with one label).

`config.json` may have the form of published checkpoints (`rope_theta`, `rope_scaling`, implied keys left out) or that
of transformers 5 (`rope_parameters`). If a checkpoint asks for something that this transformer lacks (sliding windows,
other biases, other rope types, quantised weights), it is refused and not loaded with the option ignored.

Arrays are float32 NumPy arrays on the host, in the layout of `models.transformer`, with layers stacked on a leading
axis. The whole model has to fit into the host's memory.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ml_dtypes  # noqa: F401  (teaches NumPy the name "bfloat16", which safetensors looks up)
import numpy as np
import safetensors

from posttrain_jax.models.config import RopeScaling, TransformerConfig
from posttrain_jax.types import InputError

ParamPath = tuple[str, ...]

_ARCHITECTURES = tuple(
  family + head for head in ("ForCausalLM", "ForSequenceClassification") for family in ("Llama", "Qwen2", "Qwen3")
)
_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclasses.dataclass(frozen=True)
class Stored:
  """Describes a tensor in a checkpoint file that has not been read yet.

  Attributes:
    file: the file that holds the tensor.
    shape: the tensor's shape in the file.
    read: reads the tensor; returns a float array of that shape.
  """

  file: pathlib.Path
  shape: tuple[int, ...]
  read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class StoredTensor:
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


def sources(config: TransformerConfig) -> dict[ParamPath, StoredTensor]:
  """Maps the path of every parameter in the transformer's state to its stored tensor.

  The bias of a scalar head is left out, because Hugging Face's head has no bias.
  """
  d, f, v, h = config.embed_dim, config.mlp_dim, config.vocab_size, config.head_dim
  queries, keys = (config.num_heads, h), (config.num_kv_heads, h)

  def vector(name, *shape):
    return StoredTensor(name, (math.prod(shape),), shape, False)

  def linear(name, inputs, outputs):
    return StoredTensor(f"{name}.weight", (math.prod(outputs), math.prod(inputs)), (*inputs, *outputs), True)

  layer = "model.layers.{layer}"
  table = {
    ("embed",): StoredTensor("model.embed_tokens.weight", (v, d), (v, d), False),
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
    table["score",] = StoredTensor("score.weight", (1, d), (d,), False)
  elif not config.tied:
    table["head",] = linear("lm_head", (d,), (v,))
  return table


def assemble(
  config: TransformerConfig,
  tensors: Mapping[str, Stored],
  where: pathlib.Path,
  spell: Callable[[str], str] = lambda name: name,
) -> dict[ParamPath, np.ndarray]:
  """Makes our parameters from stored tensors.

  Apart from the result, one tensor at a time is in memory.

  Args:
    config: the transformer.
    tensors: the checkpoint's tensors, by the checkpoint's names.
    where: the checkpoint's path, for messages.
    spell: turns Hugging Face's name of a tensor into the checkpoint's name.

  Returns:
    float32 arrays by path in the transformer's state; those under "blocks" have a leading layer axis.

  Raises:
    InputError: if a tensor is missing, unknown or of another shape; the message names the file and the tensor.
  """
  unknown = dict(tensors)

  def take(source, number):
    name = spell(source.name.format(layer=number))
    stored = unknown.pop(name, None)
    if stored is None:
      raise InputError(f"{where}: tensor {name!r} is missing, expected with shape {list(source.stored)}")
    if stored.shape != source.stored:
      raise InputError(f"{stored.file}: tensor {name!r} has shape {list(stored.shape)}, expected {list(source.stored)}")
    array = stored.read()
    return (array.T if source.transposed else array).reshape(source.shape)

  arrays = {}
  for path, source in sources(config).items():
    if path[0] == "blocks":
      arrays[path] = np.empty((config.num_layers, *source.shape), np.float32)
      for number in range(config.num_layers):
        arrays[path][number] = take(source, number)
    else:
      arrays[path] = np.ascontiguousarray(take(source, None), np.float32)
  if config.scalar_head:
    arrays["score_bias",] = np.zeros((), np.float32)
  for name, stored in unknown.items():
    raise InputError(f"{stored.file}: tensor {name!r} has no place in this architecture")
  return arrays


def load(directory: pathlib.Path) -> tuple[TransformerConfig, dict[ParamPath, np.ndarray]]:
  """Reads a Hugging Face directory.

  Args:
    directory: holds `config.json` and `model.safetensors`, or shards with `model.safetensors.index.json`.

  Returns:
    (config, float32 arrays by path in the transformer's state).

  Raises:
    InputError: if a file, key or tensor is missing, malformed or not supported.
  """
  config = parse_config(read_json(directory / "config.json"), directory / "config.json")
  tensors = {}
  for file, names in _files(directory):
    tensors |= _open(file, names)
  # Old Llama files store the rotary frequencies, which follow from the config.
  tensors = {name: stored for name, stored in tensors.items() if not name.endswith(".rotary_emb.inv_freq")}
  if config.tied and not config.scalar_head and "lm_head.weight" in tensors:
    head, embed = tensors.pop("lm_head.weight"), tensors.get("model.embed_tokens.weight")
    if embed is not None and not (head.shape == embed.shape and np.array_equal(head.read(), embed.read())):
      raise InputError(
        f"{head.file}: tensor 'lm_head.weight' differs from the embeddings, but config.json ties them "
        "(tie_word_embeddings)"
      )
  return config, assemble(config, tensors, directory)


def parse_config(data: Mapping[str, Any], where: pathlib.Path) -> TransformerConfig:
  """Turns `config.json`, in either form, into our config.

  Keys that are left out get the defaults of the transformers library.

  Args:
    data: the parsed file.
    where: its path, for messages.

  Raises:
    InputError: if a key is malformed or asks for something that this transformer lacks; the message names the key.
  """
  architectures = data.get("architectures") or []
  if len(architectures) != 1 or architectures[0] not in _ARCHITECTURES:
    raise InputError(f"{where}: architectures is {architectures}, expected one of {', '.join(_ARCHITECTURES)}")
  qwen2, qwen3 = (architectures[0].startswith(family) for family in ("Qwen2", "Qwen3"))
  scalar_head = architectures[0].endswith("ForSequenceClassification")
  if scalar_head:
    labels = data.get("id2label")
    count = len(labels) if isinstance(labels, Mapping) else data.get("num_labels", 2)  # 2: transformers' default
    if count != 1:
      raise InputError(f"{where}: num_labels is {count!r}, expected 1: one score for a text")

  for key, only in (
    ("hidden_act", "silu"), ("attention_bias", False), ("mlp_bias", False), ("use_sliding_window", False),
    ("partial_rotary_factor", 1.0), ("quantization_config", None),
  ):  # fmt: skip
    if data.get(key) not in (None, only):
      raise InputError(f"{where}: {key} is {data[key]!r}, supported is {only!r}")
  if set(data.get("layer_types") or ()) - {"full_attention"}:
    raise InputError(f"{where}: layer_types is {data['layer_types']}, supported is 'full_attention' only")

  def size(key, default=None):
    value = data.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
      raise InputError(f"{where}: {key} is {value!r}, expected a positive integer")
    return value

  def number(key, default, of=data):
    value = of.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
      raise InputError(f"{where}: {key} is {value!r}, expected a positive number")
    return float(value)

  heads, width = size("num_attention_heads"), size("hidden_size")
  rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
  kind, scaling = rope.get("rope_type", rope.get("type", "default")), None
  if kind == "llama3":
    scaling = RopeScaling(
      factor=number("factor", None, rope),
      low_frequency_factor=number("low_freq_factor", None, rope),
      high_frequency_factor=number("high_freq_factor", None, rope),
      original_length=int(number("original_max_position_embeddings", None, rope)),
    )
  elif kind != "default":
    raise InputError(f"{where}: rope type is {kind!r}, expected 'default' or 'llama3'")
  return TransformerConfig(
    vocab_size=size("vocab_size"),
    num_layers=size("num_hidden_layers"),
    embed_dim=width,
    mlp_dim=size("intermediate_size"),
    num_heads=heads,
    num_kv_heads=size("num_key_value_heads", heads),
    head_dim=size("head_dim", 128 if qwen3 else width // heads),
    rope_theta=number("rope_theta", number("rope_theta", 10_000.0), rope),
    rope_scaling=scaling,
    norm_epsilon=number("rms_norm_eps", 1e-6),
    qkv_bias=qwen2,
    qk_norm=qwen3,
    tied=bool(data.get("tie_word_embeddings", False)),
    max_position_embeddings=None if data.get("max_position_embeddings") is None else size("max_position_embeddings"),
    scalar_head=scalar_head,
  )


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a file that holds one JSON object.

  Raises:
    InputError: if the file is missing, is not JSON (the message has the line) or holds another JSON value.
  """
  try:
    value = json.loads(path.read_text("utf-8"))
  except FileNotFoundError:
    raise InputError(f"{path}: no such file") from None
  except json.JSONDecodeError as error:
    raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f"{path}: cannot be read: {error}") from None
  if not isinstance(value, dict):
    raise InputError(f"{path}: expected a JSON object, found {type(value).__name__}")
  return value


def _files(directory: pathlib.Path) -> Iterator[tuple[pathlib.Path, set[str] | None]]:
  """Yields each safetensors file with its tensors' names from the index; None without an index."""
  index = directory / "model.safetensors.index.json"
  if not index.exists():
    yield directory / "model.safetensors", None
    return
  weight_map = read_json(index).get("weight_map")
  if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
    raise InputError(f"{index}: expected 'weight_map', an object of tensor names to file names")
  for file in sorted(set(weight_map.values())):
    if pathlib.PurePath(file).name != file:
      raise InputError(f"{index}: weight_map names {file!r}, expected a file in the same directory")
    yield directory / file, {tensor for tensor, holder in weight_map.items() if holder == file}


def _open(file: pathlib.Path, expected: set[str] | None) -> dict[str, Stored]:
  try:
    opened = safetensors.safe_open(file, framework="np")
  except FileNotFoundError:
    raise InputError(f"{file}: no such file") from None
  except (OSError, safetensors.SafetensorError) as error:
    raise InputError(f"{file}: not a readable safetensors file: {error}") from None
  names = set(opened.keys())
  for name in sorted((expected or names) - names):
    raise InputError(f"{file}: tensor {name!r} is missing, but model.safetensors.index.json lists it for this file")
  tensors = {}
  for name in sorted(names):
    header = opened.get_slice(name)
    if header.get_dtype() not in _FLOATS:
      raise InputError(f"{file}: tensor {name!r} is {header.get_dtype()}, expected one of {', '.join(_FLOATS)}")
    tensors[name] = Stored(file, tuple(header.get_shape()), lambda name=name: opened.get_tensor(name))
  return tensors
