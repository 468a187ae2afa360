"""Reads and writes `config.json` of Hugging Face directories.

It may have the form of published checkpoints (`rope_theta`, `rope_scaling`, implied keys left out) or that of
transformers 5 (`rope_parameters`). `describe` writes the published form, which every version reads.

A field is read, or known not to change what the model computes, or refused. So a checkpoint that asks for something
that this transformer lacks (sliding windows, other biases, other rope types, quantised weights, scaled logits) is never
loaded with the option ignored.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from posttrain_jax.models.config import RopeScaling, TransformerConfig
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Family:
  """Describes what sets a family of published models apart.

  Attributes:
    qkv_bias: whether the query, key and value projections have biases.
    qk_norm: whether queries and keys are normalised.
    head_dim: width of a head if `head_dim` is left out; None for hidden_size / num_attention_heads.
    fields: further fields that `describe` writes, at the value that this transformer has.
  """

  qkv_bias: bool
  qk_norm: bool
  head_dim: int | None
  fields: Mapping[str, Any]


FAMILIES = {
  "Llama": Family(False, False, None, {"attention_bias": False, "mlp_bias": False}),
  "Qwen2": Family(True, False, None, {"use_sliding_window": False}),
  "Qwen3": Family(False, True, 128, {"attention_bias": False, "use_sliding_window": False}),
}
_LANGUAGE_MODEL, _CLASSIFIER = "ForCausalLM", "ForSequenceClassification"
_ARCHITECTURES = tuple(family + head for head in (_LANGUAGE_MODEL, _CLASSIFIER) for family in FAMILIES)

_READ = {
  "architectures", "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
  "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta",
  "rope_scaling", "rope_parameters", "tie_word_embeddings", "layer_types", "id2label", "num_labels",
}  # fmt: skip
# Fields that may be there at these values only. At another one they change what is computed.
_ONLY = {
  "hidden_act": ("silu", "swish"),
  "partial_rotary_factor": (1.0,),
  "rope_interleaved": (False,),
  "use_mrope": (False,),
  "attention_bias": (False,),
  "mlp_bias": (False,),
  "use_sliding_window": (False,),
  "use_qk_norm": (False,),
  "sliding_window": (),
  "quantization_config": (),
  "is_encoder_decoder": (False,),
  "is_decoder": (False,),
  "add_cross_attention": (False,),
  "chunk_size_feed_forward": (0,),
  "pruned_heads": ({},),
  "auto_map": ({},),
  "embedding_multiplier": (1.0,),
  "residual_multiplier": (1.0,),
  "logits_scaling": (1.0,),
  "logit_scale": (1.0,),
}
# Fields that say nothing about what is computed: ids, how to train or to sample, where the file comes from, how fast.
_HARMLESS = {
  "_name_or_path", "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal",
  "_commit_hash", "_flash_attn_2_enabled", "attention_dropout", "attn_implementation", "bos_token_id", "dtype",
  "embd_pdrop", "eos_token_id", "finetuning_task", "generation_config", "gradient_checkpointing", "hidden_dropout",
  "initializer_range", "is_llama_config", "label2id", "max_sequence_length", "max_window_layers",
  "model_max_length", "output_attentions", "output_hidden_states", "pad_token_id", "prefix", "pretraining_tp",
  "problem_type", "remove_invalid_values", "resid_pdrop", "return_dict", "sep_token_id", "task_specific_params",
  "tf_legacy_loss", "tie_encoder_decoder", "tokenizer_class", "torch_dtype", "torchscript", "transformers.js_config",
  "transformers_version", "unk_token_id", "unsloth_fixed", "unsloth_version", "use_bfloat16", "use_cache",
  "use_flash_attention", "decoder_start_token_id",
  # parameters of sampling, which old files have
  "bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping",
  "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id",
  "length_penalty", "max_length", "max_new_tokens", "min_length", "no_repeat_ngram_size", "num_beam_groups",
  "num_beams", "num_return_sequences", "output_scores", "repetition_penalty", "return_dict_in_generate",
  "suppress_tokens", "temperature", "top_k", "top_p", "typical_p",
}  # fmt: skip
_ROPE = {
  "default": set(),
  "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
}


def parse_config(data: Mapping[str, Any], where: pathlib.Path) -> TransformerConfig:
  """Turns `config.json`, in either form, into our config.

  Keys that are left out get the defaults of the transformers library.

  Args:
    data: the parsed file.
    where: its path, for messages.

  Raises:
    InputError: if a key is malformed, asks for something that this transformer lacks, or is not known; the message
      names the key.
  """
  architectures = data.get("architectures") or []
  if len(architectures) != 1 or architectures[0] not in _ARCHITECTURES:
    raise InputError(f"{where}: architectures is {architectures}, expected one of {', '.join(_ARCHITECTURES)}")
  scalar_head = architectures[0].endswith(_CLASSIFIER)
  name = architectures[0].removesuffix(_CLASSIFIER).removesuffix(_LANGUAGE_MODEL)
  family = FAMILIES[name]
  if data.get("model_type", name.lower()) != name.lower():
    raise InputError(f"{where}: model_type is {data['model_type']!r}, but architectures is {architectures}")
  _refuse_unknown(data, name, where)
  if scalar_head:
    labels = data.get("id2label")
    count = len(labels) if isinstance(labels, Mapping) else data.get("num_labels", 2)  # 2: transformers' default
    if count != 1:
      raise InputError(f"{where}: num_labels is {count!r}, expected 1: one score for a text")
  if set(data.get("layer_types") or ()) - {"full_attention"}:
    raise InputError(f"{where}: layer_types is {data['layer_types']}, supported is 'full_attention' only")
  tied = data.get("tie_word_embeddings", False)
  if not isinstance(tied, bool):
    raise InputError(f"{where}: tie_word_embeddings is {tied!r}, expected true or false")

  def size(key, default=None):
    value = data.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
      raise InputError(f"{where}: {key} is {value!r}, expected a positive integer")
    return value

  heads, width = size("num_attention_heads"), size("hidden_size")
  theta, scaling = _rope(data, where)
  return TransformerConfig(
    vocab_size=size("vocab_size"),
    num_layers=size("num_hidden_layers"),
    embed_dim=width,
    mlp_dim=size("intermediate_size"),
    num_heads=heads,
    num_kv_heads=size("num_key_value_heads", heads),
    head_dim=size("head_dim", family.head_dim or width // heads),
    rope_theta=theta,
    rope_scaling=scaling,
    norm_epsilon=_number(data, "rms_norm_eps", 1e-6, where),
    qkv_bias=family.qkv_bias,
    qk_norm=family.qk_norm,
    tied=tied,
    scalar_head=scalar_head,
    max_position_embeddings=size("max_position_embeddings")
    if data.get("max_position_embeddings") is not None
    else None,
  )


def parse_score_bias(data: Mapping[str, Any], where: pathlib.Path) -> float:
  """Returns what a reward model adds to every score.

  Hugging Face's classifiers have no bias. So `describe` puts it into a field of our own, `score_bias`, which other
  libraries ignore: their scores are lower by as much, and no comparison of scores changes.

  Raises:
    InputError: if it is not a finite number.
  """
  bias = data.get("score_bias", 0.0)
  if not isinstance(bias, int | float) or isinstance(bias, bool) or not math.isfinite(bias):
    raise InputError(f"{where}: score_bias is {bias!r}, expected a finite number")
  return float(bias)


def describe(config: TransformerConfig, *, score_bias: float = 0.0) -> dict[str, Any]:
  """Turns our config into the content of `config.json`, without token ids and dtype.

  `parse_config` turns it back into the same config.

  Args:
    config: the transformer.
    score_bias: what a reward model adds to every score (`parse_score_bias`).

  Raises:
    InputError: if no architecture computes what the transformer does; the message names the property.
  """
  name = next((n for n, f in FAMILIES.items() if (f.qkv_bias, f.qk_norm) == (config.qkv_bias, config.qk_norm)), None)
  if name is None:
    raise InputError("model.qkv_bias and model.qk_norm are both true; no Hugging Face architecture here has both")
  if name == "Llama" and config.embed_dim % config.num_heads:
    raise InputError(
      f"model.embed_dim is {config.embed_dim}, no multiple of num_heads {config.num_heads}, as Llama's must be"
    )
  data = {
    "architectures": [name + (_CLASSIFIER if config.scalar_head else _LANGUAGE_MODEL)],
    "model_type": name.lower(),
    "vocab_size": config.vocab_size,
    "hidden_size": config.embed_dim,
    "intermediate_size": config.mlp_dim,
    "num_hidden_layers": config.num_layers,
    "num_attention_heads": config.num_heads,
    "num_key_value_heads": config.num_kv_heads,
    "head_dim": config.head_dim,
    "hidden_act": "silu",
    "rms_norm_eps": config.norm_epsilon,
    "rope_theta": config.rope_theta,
    "rope_scaling": None,
    "tie_word_embeddings": config.tied,
    "attention_dropout": 0.0,
    **FAMILIES[name].fields,
  }
  if config.rope_scaling is not None:
    data["rope_scaling"] = {
      "rope_type": "llama3",
      "factor": config.rope_scaling.factor,
      "low_freq_factor": config.rope_scaling.low_frequency_factor,
      "high_freq_factor": config.rope_scaling.high_frequency_factor,
      "original_max_position_embeddings": config.rope_scaling.original_length,
    }
  if config.max_position_embeddings is not None:
    data["max_position_embeddings"] = config.max_position_embeddings
  if config.scalar_head:
    data |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
  if score_bias:
    data["score_bias"] = score_bias
  return data


def _refuse_unknown(data: Mapping[str, Any], family: str, where: pathlib.Path) -> None:
  """Raises InputError at the first field that changes, or may change, what is computed."""
  for key, value in data.items():
    if value is None or key in _READ or key in _HARMLESS:
      continue
    if key == "sliding_window" and family.startswith("Qwen"):  # has no effect without use_sliding_window
      continue
    if key == "score_bias" and data["architectures"][0].endswith(_CLASSIFIER):
      continue
    if key not in _ONLY:
      raise InputError(
        f"{where}: {key} is {value!r}, a field that is not known and may change what the model computes; remove it if "
        "it does not"
      )
    if not any(value == only for only in _ONLY[key]):
      expected = " or ".join(map(repr, _ONLY[key][:1])) or "no such field"
      raise InputError(f"{where}: {key} is {value!r}, supported is {expected}")


def _rope(data: Mapping[str, Any], where: pathlib.Path) -> tuple[float, RopeScaling | None]:
  """Reads theta and the scaling of the rotary frequencies."""
  given = {key: data[key] for key in ("rope_parameters", "rope_scaling") if data.get(key)}
  for key, value in given.items():
    if not isinstance(value, Mapping):
      raise InputError(f"{where}: {key} is {value!r}, expected an object")
  if len(given) == 2 and given["rope_parameters"] != given["rope_scaling"]:
    raise InputError(f"{where}: rope_parameters and rope_scaling differ, expected one of them")
  key, rope = next(iter(given.items()), ("rope_parameters", {}))
  if any(isinstance(value, Mapping) for value in rope.values()):  # one object for each kind of layer
    key, rope = f"{key}.full_attention", rope.get("full_attention")
    if not isinstance(rope, Mapping):
      raise InputError(f"{where}: {key} is {rope!r}, expected the object for the layers of full attention")
  kind = rope.get("rope_type", rope.get("type", "default"))
  if kind not in _ROPE:
    raise InputError(f"{where}: rope type is {kind!r}, expected 'default' or 'llama3'")
  for name, value in rope.items():
    if name in ("factor", "partial_rotary_factor") and value == 1.0:
      continue
    if value is not None and name not in {"rope_type", "type", "rope_theta"} | _ROPE[kind]:
      raise InputError(f"{where}: {key}.{name} is {value!r}, expected no such field with the rope type {kind!r}")
  theta = _number(rope, "rope_theta", _number(data, "rope_theta", 10_000.0, where), where)
  if rope.get("rope_theta") is not None and data.get("rope_theta", theta) != theta:
    raise InputError(f"{where}: rope_theta is {data['rope_theta']!r}, but {key}.rope_theta is {theta!r}")
  if kind == "default":
    return theta, None
  scaling = RopeScaling(
    factor=_number(rope, "factor", None, where),
    low_frequency_factor=_number(rope, "low_freq_factor", None, where),
    high_frequency_factor=_number(rope, "high_freq_factor", None, where),
    original_length=int(_number(rope, "original_max_position_embeddings", None, where)),
  )
  return theta, scaling


def _number(data: Mapping[str, Any], key: str, default: float | None, where: pathlib.Path) -> float:
  value = data.get(key)
  value = default if value is None else value
  if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
    raise InputError(f"{where}: {key} is {value!r}, expected a positive number")
  return float(value)
