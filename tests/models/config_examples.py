"""Holds `config.json` files, published and small ones.

There is one for each family and head.
"""

LLAMA = {
  "architectures": ["LlamaForCausalLM"],
  "vocab_size": 11,
  "num_hidden_layers": 2,
  "hidden_size": 12,
  "intermediate_size": 10,
  "num_attention_heads": 3,
  "num_key_value_heads": 1,
}
QWEN2 = LLAMA | {"architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": True}
QWEN3 = LLAMA | {"architectures": ["Qwen3ForCausalLM"], "head_dim": 6}
REWARDS = [
  data | {"architectures": [data["architectures"][0].replace("CausalLM", "SequenceClassification")], "num_labels": 1}
  for data in (LLAMA, QWEN2, QWEN3)
]

_SAMPLING_ERA = {"max_length": 4096, "pad_token_id": 0, "temperature": 0.9, "top_p": 0.6, "do_sample": True}
_LLAMA_3 = {
  "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000,
  "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
  "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama",
  "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "head_dim": 64, "pretraining_tp": 1,
  "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
  "transformers_version": "4.45.0.dev0", "use_cache": True, "vocab_size": 128256,
  "rope_scaling": {
    "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
  },
}  # fmt: skip
_QWEN_2 = {
  "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
  "hidden_act": "silu", "hidden_size": 1536, "initializer_range": 0.02, "intermediate_size": 8960,
  "max_position_embeddings": 131072, "max_window_layers": 28, "model_type": "qwen2", "num_attention_heads": 12,
  "num_hidden_layers": 28, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
  "sliding_window": 131072, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "transformers_version": "4.40.1",
  "use_cache": True, "use_mrope": False, "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
# What checkpoints on the hub have, with the fields that say nothing about the model.
PUBLISHED = {
  "llama-3.2": _LLAMA_3,
  "llama-2": {
    "_name_or_path": "meta-llama/Llama-2-7b-hf", "architectures": ["LlamaForCausalLM"], "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
    "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "llama", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 32, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": None, "tie_word_embeddings": False, "torch_dtype": "float16", "vocab_size": 32000,
    **_SAMPLING_ERA,
  },
  "smollm2": {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041666666666666664,
    "intermediate_size": 1536, "is_llama_config": True, "max_position_embeddings": 8192, "mlp_bias": False,
    "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
    "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": False, "rope_scaling": None,
    "rope_theta": 100000, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
    "transformers_version": "4.42.3", "use_cache": True, "vocab_size": 49152,
  },
  "qwen2.5": _QWEN_2,
  "qwen3": {
    **{key: value for key, value in _QWEN_2.items() if key != "use_mrope"}, "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False, "head_dim": 128, "model_type": "qwen3", "rope_scaling": None, "sliding_window": None,
  },
  "reward model": {
    **_LLAMA_3, "architectures": ["LlamaForSequenceClassification"], "_attn_implementation_autoset": True,
    "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "pad_token_id": 128256, "use_cache": False,
  },
}  # fmt: skip
