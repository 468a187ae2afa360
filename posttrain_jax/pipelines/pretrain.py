"""Pretrains a model on the shards of `experiments.prepare`, by next-token loss on packed rows.

The first phase trains on rows of `corpus.row_length` tokens. A second one, if there is one, goes on with longer rows
and perhaps other rotary frequencies, so that the model reads longer contexts. Its run is in DIR/extended. Both measure
the loss on held-out documents. The loop, the learner and the checkpoints are those of SFT (`pipelines.supervised`).
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import ml_collections

from posttrain_jax.assembly.demonstrations import DemonstrationData
from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.model import digests as policy_digests
from posttrain_jax.data import prompts
from posttrain_jax.data.documents import SHARDS, read_shards
from posttrain_jax.data.token_files import TokenFile, tokenize
from posttrain_jax.data.token_rows import TokenRows
from posttrain_jax.learner.batch_learner import check_division
from posttrain_jax.local_path import local_path
from posttrain_jax.pipelines import offline, supervised
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.pipelines.pretrain_settings import PretrainSettings
from posttrain_jax.reports.end import end_run
from posttrain_jax.runs.journal import read_metrics
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import as_config, parse
from posttrain_jax.runs.workdir import Workdir

PRETRAINED, EXTENDED = "pretrained", "extended"
_LOSS = "eval/validation/loss"


def pretrain(config: ml_collections.ConfigDict, workdir: str, *, tokens: pathlib.Path | None = None) -> dict[str, Any]:
  """Pretrains a model, or goes on with a run that was stopped.

  Args:
    config: see `configs/pretrain.py`.
    workdir: DIR; gets tokens/, and what an SFT run gets; DIR/extended is the run of the second phase.
    tokens: folder of the tokens; None for DIR/tokens. Runs with one corpus and one tokeniser may share it.

  Returns:
    Parameters, tokens, and the loss on held-out documents, by phase.

  Raises:
    InputError: if config or input is not fit for use.
    Preempted: after SIGTERM and a checkpoint.
    Diverged: if too many updates in a row were not finite; the last checkpoint is good.
  """
  settings = checked(config)
  with contextlib.ExitStack() as stack:
    run = MethodAssembly(settings, stack, memory=settings.memory)
    read_shards(settings.corpus.path)  # raises before anything is written
    run.digests["shards"] = prompts.file_digest(local_path(settings.corpus.path, "corpus.path") / SHARDS)
    for phase in (settings, settings.extended()) if settings.extension.steps else (settings,):
      check_division(run.mesh, batch_size=phase.batch_size, micro_batches=phase.micro_batches)
    directory, preemption = run.open(workdir, settings)
    section, folder = settings.corpus, tokens or directory.path / "tokens"
    files = tokenize(section.path, run.policy.tokenizer, folder, held_out=section.held_out)
    paths, policy = {PRETRAINED: directory.path}, run.policy
    params = _fit(PRETRAINED, settings, policy, files, directory.path, run, preemption)
    if settings.extension.steps:
      longer, path = settings.extended(), directory.path / EXTENDED
      policy = _for_longer_rows(dataclasses.replace(policy, params=params), longer)
      digests = run.digests | policy_digests(str(directory.path), policy.tokenizer)  # of the first phase's parameters
      with Workdir.open(path, as_config(longer), digests):
        _fit(EXTENDED, longer, policy, files, path, run, preemption)
      paths[EXTENDED] = path
  for path in paths.values():
    end_run(path, report=settings.logging.report)
  found = {name: _measured(path) for name, path in paths.items()}
  return {"parameters": policy.model.num_params, **found}


def checked(config: ml_collections.ConfigDict) -> PretrainSettings:
  """Parses a config.

  Raises:
    InputError: if a field is unknown, missing, of another type or out of range.
  """
  settings = parse(PretrainSettings, config)
  offline.check_length(settings)
  # The rows of an epoch are not known before the text is tokenised.
  return settings if settings.epochs else offline.with_length(settings, 0)


def _fit(
  title: str,
  settings: PretrainSettings,
  policy: Policy,
  files: tuple[Sequence[TokenFile], Sequence[TokenFile]],
  path: pathlib.Path,
  run: MethodAssembly,
  preemption: Preemption,
):
  """Trains one phase and returns its parameters."""
  data = lay_out(settings, files)
  data.check_context(policy.model)
  settings = offline.with_length(settings, data.batches.num_rows)
  return supervised.fit(
    settings.fitting(),
    policy,
    run.mesh,
    data,
    path,
    None,
    preemption,
    seed=settings.seed,
    optimizer_kept=settings.memory.optimizer,
    title=title,
  )


def lay_out(settings: PretrainSettings, files: tuple[Sequence[TokenFile], Sequence[TokenFile]]) -> DemonstrationData:
  """Cuts the tokens into the rows of a phase.

  Args:
    settings: of the phase.
    files: what is trained on, and what is held out.

  Raises:
    InputError: if one of them has no tokens.
  """
  section, seed = settings.corpus, stream_seed(settings.seed, Stream.PRETRAINING)
  train, held_out = files
  batches = TokenRows(train, section.row_length, batch_size=settings.batch_size, seed=seed)
  validation = TokenRows(
    held_out, section.row_length, batch_size=settings.batch_size, seed=seed, limit=section.held_out_rows
  )
  facts = {
    "data/examples": batches.num_examples,
    "data/rows": batches.num_rows,
    "data/tokens": batches.num_tokens,
    "data/learned": batches.num_learned,
    "data/packing_efficiency": batches.efficiency,
  }
  return DemonstrationData(batches, validation, {}, facts)


def _for_longer_rows(policy: Policy, settings: PretrainSettings) -> Policy:
  """Returns the policy with the rotary frequencies and the context of the second phase."""
  context, length = policy.model.max_position_embeddings, settings.corpus.row_length
  model = dataclasses.replace(
    policy.model,
    rope_theta=settings.extension.rope_theta or policy.model.rope_theta,
    max_position_embeddings=None if context is None else max(context, length),
  )
  return dataclasses.replace(policy, model=model)


def _measured(path: pathlib.Path) -> dict[str, Any]:
  """Returns what a phase's metrics say of it."""
  records = read_metrics(path)
  measured = [record for record in records if _LOSS in record]
  found = {"steps": records[-1]["step"], "tokens": sum(record.get("tokens", 0) for record in records)}
  if measured:
    found |= {"loss": measured[-1][_LOSS], "held_out_tokens": measured[-1]["eval/validation/tokens"]}
  if measured and measured[0]["step"] == 0:
    found["loss_before"] = measured[0][_LOSS]
  return found
