"""Loads a policy by path or name: its sizes, its tokeniser, its parameters.

`PATH_OR_NAME` is a run's workdir, a Hugging Face directory, a GGUF file or a known name; left empty, a transformer of
the config's sizes with random parameters and a tiny tokeniser: of the procedural task, or of bytes.
"""

import dataclasses
import enum
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from posttrain_jax.data import demonstrations, prompts, tagged
from posttrain_jax.data.assistant_world import language as assistant_language
from posttrain_jax.data.model_tokenizer import load_tokenizer
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.data.vocabularies import byte_tokenizer, tiny_tokenizer, word_tokenizer
from posttrain_jax.learner import checkpoint, checkpoint_folder, stored_params
from posttrain_jax.learner.manifest import manifest_path
from posttrain_jax.learner.state import abstract_like
from posttrain_jax.local_path import local_path
from posttrain_jax.models import load as public
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.processes import is_main
from posttrain_jax.parallel.sharding import LEARNER_RULES, state_shardings
from posttrain_jax.runs import workdir
from posttrain_jax.runs.settings import convert, parse
from posttrain_jax.types import InputError

_MODEL_FILE = "model.json"
_TOKENIZER_DIRECTORY = "tokenizer"
# What says how a model is computed, not what it is: taken from the config whatever the model comes from.
COMPUTE_FIELDS = ("compute_dtype", "remat", "unroll")
_BEYOND_CONTEXT = "beyond_context"  # the same, but a config may leave it out


class Vocabulary(enum.StrEnum):
  """Names what a model without a path reads."""

  SYMBOLS = "symbols"  # one token for each term of the procedural task; other text is refused
  BYTES = "bytes"  # any text, a token for each byte of UTF-8
  WORDS = "words"  # one token for each word of the assistant world; other text is refused


@dataclasses.dataclass(frozen=True)
class ModelSettings:
  """Holds a config's group of fields about the model.

  Attributes:
    path: PATH_OR_NAME; empty for a transformer with random parameters.
    transformer: fields of `TransformerConfig`. Where there is a path, only `COMPUTE_FIELDS` and "beyond_context"
      count. A `vocab_size` of 0
      is the tokeniser's.
    tags: whether the tiny tokeniser knows the symbols of R1's template too.
    vocabulary: what a model without a path reads; None is SYMBOLS.
  """

  path: str
  transformer: Mapping[str, Any]
  tags: bool | None = None
  vocabulary: Vocabulary | None = None

  @classmethod
  def from_section(cls, section: Mapping[str, Any], where: str) -> "ModelSettings":
    """Reads the config's group; its fields besides these three are the transformer's: `path`, `tags`, `vocabulary`."""
    own = {"path", "tags", "vocabulary"}
    known = {field.name for field in dataclasses.fields(TransformerConfig)}
    for name in section:
      if name not in known | own:
        raise InputError(f"{where}.{name}: unknown, expected one of {', '.join(sorted(known | own))}")
    for name in ("path", *COMPUTE_FIELDS):
      if name not in section:
        raise InputError(f"{where}.{name}: missing, expected as in configs/tiny_sft.py")
    sizes = {name: value for name, value in section.items() if name in known}
    vocabulary = convert(Vocabulary | None, section.get("vocabulary"), f"{where}.vocabulary")
    return cls(section["path"], sizes, section.get("tags"), vocabulary)

  def to_section(self) -> dict[str, Any]:
    """Returns the config's group."""
    tags = {} if self.tags is None else {"tags": self.tags}
    vocabulary = {} if self.vocabulary is None else {"vocabulary": self.vocabulary.value}
    return {"path": self.path, **tags, **vocabulary, **self.transformer}


class Which(enum.StrEnum):
  """Names one of a run's checkpoints."""

  LATEST = "latest"
  BEST = "best"  # by the metric that the run's config names
  AVERAGE = "average"  # the latest, and of it the average of the parameters (PPO's `average.decay`)


@dataclasses.dataclass(frozen=True)
class Policy:
  """Holds a model that can be sampled from and trained.

  Attributes:
    model: the transformer's config, layers stacked. Its `absent_ids` are those that the tokeniser does not have.
    tokenizer: its tokeniser.
    params: float32 parameters on the host or on devices; None stands for random ones, made where they are used.
  """

  model: TransformerConfig
  tokenizer: Tokenizer
  params: nnx.State | None = None

  def __post_init__(self):
    """Notes in the model which of its ids have no token.

    Raises:
      InputError: if the tokeniser has ids that the model has no embedding for.
    """
    if self.tokenizer.vocab_size > self.model.vocab_size:
      raise InputError(
        f"tokenizer has {self.tokenizer.vocab_size} ids, model.vocab_size is {self.model.vocab_size}; expected no more"
      )
    absent = () if self.model.scalar_head else self.tokenizer.absent_ids(self.model.vocab_size)
    if absent != self.model.absent_ids:
      object.__setattr__(self, "model", dataclasses.replace(self.model, absent_ids=absent))


def load_policy(
  section: ModelSettings,
  *,
  scalar_head: bool = False,
  symbols: Sequence[str] = demonstrations.SYMBOLS,
) -> Policy:
  """Loads what the config's `model` section names.

  Args:
    section: which model, and how to compute.
    scalar_head: whether a reward model is accepted.
    symbols: what the tiny tokeniser knows, if the config has no path.

  Raises:
    InputError: if there is no such model, if it cannot be read, if its parts do not fit, or if it is a reward model.
  """
  path, sizes = section.path, dict(section.transformer)
  if not path:
    if section.vocabulary == Vocabulary.BYTES:
      tokenizer = byte_tokenizer()
    elif section.vocabulary == Vocabulary.WORDS:
      tokenizer = word_tokenizer(assistant_language.vocabulary())
    else:
      tokenizer = tiny_tokenizer((*symbols, *tagged.TAGS) if section.tags else symbols)
    sizes["vocab_size"] = sizes.get("vocab_size") or tokenizer.vocab_size
    return Policy(parse(TransformerConfig, sizes, "model"), tokenizer)
  compute = {name: sizes[name] for name in (*COMPUTE_FIELDS, _BEYOND_CONTEXT) if name in sizes}
  if read_config(path).scalar_head and not scalar_head:  # before the parameters are read
    raise InputError(f"model.path: {path} is a reward model, expected a language model")
  policy = open_policy(path)
  model = parse(TransformerConfig, dataclasses.asdict(policy.model) | compute, "model")
  return dataclasses.replace(policy, model=model)


def open_policy(path: str, which: Which | None = None) -> Policy:
  """Loads a policy as it was saved.

  Args:
    path: PATH_OR_NAME.
    which: which checkpoint of a workdir, the latest if None; anything else has only one.

  Raises:
    InputError: if there is no such model, or if it cannot be read.
  """
  read_config(path)  # says what is wrong with a path that names no model
  tokenizer = find_tokenizer(path)
  if tokenizer is None:
    raise InputError(f"{path}: found no tokenizer.json, expected a model with its tokeniser")
  model, params = load_model(path, which)
  return Policy(model, tokenizer, params)


def load_model(path: str, which: Which | None = None) -> tuple[TransformerConfig, nnx.State]:
  """Loads the model of `open_policy` without its tokeniser: (config, float32 parameters, layers stacked)."""
  if is_run(path):
    return _load_run(local_path(path), which)
  _refuse_run_without_model(local_path(path, "model"))
  if which is not None:
    raise InputError(f"--checkpoint={which}: {path} is not the workdir of a run, expected no choice of a checkpoint")
  return public.load(path)


def read_config(path: str) -> TransformerConfig:
  """Reads the config of the model of `load_model`, whose parameters stay on disk."""
  if is_run(path):
    return _run_config(local_path(path))
  _refuse_run_without_model(local_path(path, "model"))
  return public.read_config(path)


def find_tokenizer(path: str) -> Tokenizer | None:
  """Loads the tokeniser of `open_policy`; None for a Hugging Face directory without one."""
  if is_run(path):
    return Tokenizer.load(local_path(path) / _TOKENIZER_DIRECTORY)
  found = public.resolve(path)
  return None if found.is_dir() and not (found / "tokenizer.json").exists() else load_tokenizer(path)


def is_run(path: str | pathlib.Path) -> bool:
  """Returns whether a directory is the workdir of a run."""
  return (local_path(path, "model") / _MODEL_FILE).exists()


def digests(path: str, tokenizer: Tokenizer) -> dict[str, str]:
  """Returns the sha256 of a policy's tokeniser and, given a path, of its weights.

  Of a run's workdir it is the newest checkpoint's manifest that is hashed, which holds the digests of all its files.
  """
  found = {"tokenizer": tokenizer.digest()}
  if path:
    source = local_path(path) if is_run(path) else public.resolve(path)
    if is_run(path):
      steps = checkpoint_folder.finished_steps(source / "checkpoints")[-1:]
      files = [manifest_path(source / "checkpoints", step) for step in steps]
    else:
      files = sorted([*source.glob("*.safetensors"), source / "config.json"]) if source.is_dir() else [source]
    parts = [prompts.file_digest(file) for file in files]
    found["model"] = parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()
  return found


def save_description(policy: Policy, path: pathlib.Path) -> None:
  """Writes the model's sizes and tokeniser.

  A workdir with these files and a checkpoint can be loaded by its path.
  """
  if not is_main():
    return
  policy.tokenizer.save(path / _TOKENIZER_DIRECTORY)
  (path / _MODEL_FILE).write_text(json.dumps(dataclasses.asdict(policy.model), indent=2) + "\n", "utf-8")


def _refuse_run_without_model(path: pathlib.Path) -> None:
  """Raises InputError if a directory is the workdir of a run that made no model."""
  try:
    config = workdir.read_json(path)
  except InputError:  # not a run's: whatever reads the model says what is wrong
    return
  if isinstance(config.get("digests"), dict):
    made = [name for name in ("demonstrations.jsonl", "pairs.jsonl") if (path / name).exists()]
    has = f"it has {' and '.join(made)} to train on" if made else "it collects data or has not started to train"
    raise InputError(f"{path}: the workdir of a run without a model ({has}); expected one that trained a model")


def open_run_params(
  path: pathlib.Path, which: Which | None
) -> tuple[TransformerConfig, Mapping[tuple[str, ...], stored_params.ReadLayer]]:
  """Opens the model of a run's workdir; its parameters stay on disk (`stored_params.open_params`)."""
  model = _run_config(path)
  _, abstract = abstract_transformer(model)
  name, step = _leaf_and_step(path, which)
  params = stored_params.open_params(path / "checkpoints", abstract, name=name, step=step)
  if params is None:
    raise _no_checkpoint(path)
  return model, params


def _load_run(path: pathlib.Path, which: Which | None) -> tuple[TransformerConfig, nnx.State]:
  model = _run_config(path)
  _, abstract = abstract_transformer(model)
  mesh = make_mesh({}, jax.local_devices()[:1])
  target = abstract_like(abstract, state_shardings(abstract, mesh, LEARNER_RULES))
  name, step = _leaf_and_step(path, which)
  restored = checkpoint.load(path / "checkpoints", {name: target}, step=step, partial=True)
  if restored is None:
    raise _no_checkpoint(path)
  return model, restored.state[name]


def _run_config(path: pathlib.Path) -> TransformerConfig:
  sizes = json.loads((path / _MODEL_FILE).read_text("utf-8"))
  return parse(TransformerConfig, sizes, str(path / _MODEL_FILE))


def _leaf_and_step(path: pathlib.Path, which: Which | None) -> tuple[str, int | None]:
  """Returns where a run's checkpoints have the parameters, and the step to read.

  The step is None for the newest.
  """
  step = checkpoint.best_step(path / "checkpoints") if which == Which.BEST else None
  if which == Which.BEST and step is None:
    raise InputError(f"{path}: found no checkpoint saved as best, expected a run that was evaluated")
  return "average" if which == Which.AVERAGE else "params", step


def _no_checkpoint(path: pathlib.Path) -> InputError:
  return InputError(f"{path}: found no finished checkpoint, expected the workdir of a run that saved one")
