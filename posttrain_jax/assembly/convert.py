"""Writes any model as a Hugging Face directory.

The model is a run's, a GGUF file's or another Hugging Face directory's.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from absl import logging

from posttrain_jax.assembly.model import Which, find_tokenizer, is_run, open_run_params
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.local_path import local_path
from posttrain_jax.models import gguf, huggingface
from posttrain_jax.models import load as public
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.config_json import describe
from posttrain_jax.models.export import write_weights
from posttrain_jax.models.tensors import Stored, disassemble
from posttrain_jax.types import InputError

# What a Hugging Face directory has besides config.json and weights, and its licence.
_COPIED = (
  "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
  "chat_template.*", "additional_chat_templates", "LICENSE*", "NOTICE*",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Opened:
  """Holds a model that is about to be written.

  Attributes:
    config: the transformer.
    tensors: by Hugging Face's names, not read yet.
    score_bias: what a run's reward model adds to every score.
  """

  config: TransformerConfig
  tensors: dict[str, Stored]
  score_bias: float = 0.0


def convert(
  model: str,
  destination: str | pathlib.Path,
  *,
  dtype: str | None = None,
  shard_bytes: int = 5 * 2**30,
  which: Which | None = None,
) -> dict[str, Any]:
  """Writes a model as a Hugging Face directory, whole or not at all.

  The host holds one tensor at a time.

  Args:
    model: PATH_OR_NAME.
    destination: directory to write; must be empty or not exist.
    dtype: "float32", "bfloat16" or "float16", to which weights are rounded; None: as they are stored, which is float32
      for runs and GGUF files.
    shard_bytes: most bytes of tensors in a file.
    which: which checkpoint of a workdir.

  Returns:
    "files", their names; "parameters", their number.

  Raises:
    InputError: if the model cannot be read, if Hugging Face's format cannot express what it computes, or if the
      destination is not empty or cannot be written.
  """
  output = local_path(destination, "--output").resolve()
  if output.exists() and (not output.is_dir() or any(output.iterdir())):
    found = "a directory that is not empty" if output.is_dir() else "a file"
    raise InputError(f"--output={destination}: found {found}, expected an empty directory or none")
  opened = _open(model, which)
  source = None if is_run(model) else public.resolve(model)
  tokenizer = find_tokenizer(model)
  if source is not None and source.is_dir():
    content = huggingface.read_json(source / "config.json")
    if dtype is not None:
      content = {key: value for key, value in content.items() if key != "dtype"} | {"torch_dtype": dtype}
  else:
    content = describe(opened.config, score_bias=opened.score_bias)
    content |= _token_ids(tokenizer, opened.config) | {"torch_dtype": dtype or "float32"}
  with _replacing(output, destination) as directory:
    _write_json(directory / "config.json", content)
    if source is not None and source.is_dir():
      _copy(source, directory)
    elif tokenizer is not None:
      tokenizer.save(directory)
    if not opened.config.scalar_head and not (directory / "generation_config.json").exists():
      ids = {key: content.get(key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
      _write_json(directory / "generation_config.json", {key: value for key, value in ids.items() if value is not None})
    write_weights(opened.tensors, directory, dtype=dtype, shard_bytes=shard_bytes)
    files = sorted(file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file())
  parameters = sum(math.prod(stored.shape) for stored in opened.tensors.values())
  return {"files": files, "parameters": parameters}


def _open(model: str, which: Which | None) -> Opened:
  if is_run(model):
    config, params = open_run_params(pathlib.Path(model), which)
    bias = float(params["score_bias",](None)) if config.scalar_head else 0.0
    if not math.isfinite(bias):
      raise InputError(f"{model}: score_bias is {bias}, expected a finite number")
    if bias:
      logging.warning("config.json has score_bias %.6g, which other libraries ignore: their scores lack it", bias)
    return Opened(config, disassemble(config, params, pathlib.Path(model)), bias)
  if which is not None:
    raise InputError(f"--checkpoint={which}: {model} is not the workdir of a run, expected no choice of a checkpoint")
  path = public.resolve(model)
  return Opened(*(huggingface.open_directory(path) if path.is_dir() else gguf.open_model(path)))


def _token_ids(tokenizer: Tokenizer, config: TransformerConfig) -> dict[str, Any]:
  """Returns the fields of config.json about token ids.

  Hugging Face's classifiers score the last token that is not `pad_token_id`. Ours score the last token, so the id on
  padding is left out if it may end a text: then transformers takes one text at a time, and scores its last token.
  """
  stops = list(tokenizer.stop_ids)
  pad = None if config.scalar_head and tokenizer.pad_id in (*stops, tokenizer.bos_id) else tokenizer.pad_id
  eos = stops[0] if len(stops) == 1 else stops or None
  return {"bos_token_id": tokenizer.bos_id, "eos_token_id": eos, "pad_token_id": pad}


def _copy(source: pathlib.Path, directory: pathlib.Path) -> None:
  for pattern in _COPIED:
    for file in source.glob(pattern):
      if file.is_dir():
        shutil.copytree(file, directory / file.name)
      else:
        shutil.copyfile(file, directory / file.name)


def _write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
  path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


@contextlib.contextmanager
def _replacing(output: pathlib.Path, given: str | pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives a temporary directory that takes the place of `output` in the end.

  It stands beside `output` and is removed after an error.
  """
  temporary = None
  try:
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    temporary.chmod(0o777 & ~_umask())
    yield temporary
    for file in temporary.rglob("*"):
      if file.is_file():
        with open(file, "rb") as written:
          os.fsync(written.fileno())  # otherwise a power loss could leave a whole name with half the content
    os.replace(temporary, output)
  except OSError as error:
    raise InputError(f"--output={given}: cannot be written: {error}") from error
  finally:
    if temporary is not None and temporary.exists():
      shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
  mask = os.umask(0)
  os.umask(mask)
  return mask
