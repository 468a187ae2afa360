"""Makes demonstrations, and pairs of answers, for SFT, reward models and DPO: from a model's own answers or by editing.

Rejection sampling keeps the best of K answers (Llama 3, arXiv:2407.21783); distillation gives the student both the
original answer and the teacher's, verified (DeepSeek-V3, arXiv:2412.19437); edited answers stand above the chosen and
the rejected one (Llama 3). Rows hold what was asked as it was asked, as text or messages, so they are trained on with
the default `demonstrations.template`, `chat` and `system`.
"""

import contextlib
import enum
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from posttrain_jax import atomic_files
from posttrain_jax.assembly.demonstrations import read_demonstrations
from posttrain_jax.assembly.judges import judge_by_model, load_reward_model, make_judge, make_workers
from posttrain_jax.assembly.model import digests as policy_digests
from posttrain_jax.assembly.model import load_policy
from posttrain_jax.assembly.prompts import load_prompts
from posttrain_jax.data import arithmetic, distillation, edited, graded_answers, prompts, rejection, sources
from posttrain_jax.data.prompts import PromptFormat, Row
from posttrain_jax.data.rejection import Candidates
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.pipelines import sft
from posttrain_jax.pipelines.sampled_candidates import asked_text, best_over_worst, sample_candidates
from posttrain_jax.runs.preemption import Preemption
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import at_least, build, convert
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import InputError, Prompt

DEMONSTRATIONS, PAIRS, COUNTS = "demonstrations.jsonl", "pairs.jsonl", "counts.json"
_LEAST = {"rollout.samples": 1, "rollout.prompts": 1}


class Source(enum.StrEnum):
  """Where demonstrations come from."""

  REJECTION_SAMPLING = "rejection_sampling"
  DISTILLATION = "distillation"
  EDITED = "edited"


def collect(config: ml_collections.ConfigDict, workdir: str) -> dict[str, int]:
  """Collects, or goes on with it; of a finished collection it returns the counts.

  Args:
    config: see `configs/tiny_collect.py`, `configs/tiny_distillation.py` and `configs/tiny_edited.py`.
    workdir: DIR; gets config.json, demonstrations.jsonl, pairs.jsonl (not of distillation), and at the end counts.json.

  Returns:
    How many prompts and answers there were and what became of them; see `data.rejection` and `data.distillation`.

  Raises:
    InputError: bad configuration or input, before anything is compiled; DIR holds another collection; or no
      demonstration is left.
    Preempted: after SIGTERM and a finished round.
  """
  source = convert(Source, config.source, "source")
  with contextlib.ExitStack() as stack:
    if source == Source.EDITED:
      return _collect_edited(config, workdir, stack)
    return _collect_sampled(config, workdir, stack, source)


def _collect_edited(config: ml_collections.ConfigDict, workdir: str, stack: contextlib.ExitStack) -> dict[str, int]:
  rows, left_out, digest = _edited_rows(config.edited)
  targets, pairs = ([row.columns for row in made] for made in (edited.targets(rows), edited.ranked_pairs(rows)))
  path = stack.enter_context(Workdir.open(workdir, config, {"edited": digest})).path
  return _finish(path, {"rows": len(rows), "left_out": left_out}, targets, pairs)


def _edited_rows(section: ml_collections.ConfigDict) -> tuple[list[Row], int, str]:
  """(rows, procedural problems with nothing to edit, digest)."""
  if sources.is_tfds(section.path):
    rows = sources.read_tfds(section.path)
    return rows, 0, prompts.rows_digest(row.columns for row in rows)
  if section.path:
    return prompts.read_jsonl(section.path), 0, prompts.file_digest(section.path)
  problems = arithmetic.problems(arithmetic.Split.TRAIN, per_difficulty=section.per_difficulty, seed=section.seed)
  form = graded_answers.Form.EDITED
  written, left_out = graded_answers.graded_answers(problems, form=form, noise=section.noise, seed=section.seed)
  return prompts.named_rows(written, "edited answers"), left_out, prompts.rows_digest(written)


def _collect_sampled(
  config: ml_collections.ConfigDict, workdir: str, stack: contextlib.ExitStack, source: Source
) -> dict[str, int]:
  at_least(config, _LEAST)
  rollout, options = config.rollout, config.selection.to_dict()
  rejection.select([], **options)  # raises on what it cannot work with
  asking = _asking(config, source)
  policy, mesh = load_policy(config.model), make_mesh(config.mesh)
  asked, digests = load_prompts(asking, policy.tokenizer, max_prompt_length=rollout.max_prompt_length, where="prompts")
  prompt_format = PromptFormat(template=asking.template, chat=asking.chat, system=asking.system or None)
  originals = _originals(config, asked) if source == Source.DISTILLATION else []
  engine = Engine(
    policy.model,
    build(SamplingConfig, rollout.sampling, "rollout.sampling", stop_ids=policy.tokenizer.stop_ids),
    seed=stream_seed(config.seed, Stream.ROLLOUT),
    slots=rollout.slots,
    max_prompt_length=max(len(prompt.tokens) for prompt in asked),
    max_new_tokens=rollout.max_new_tokens,
    share=rollout.samples,
    mesh=mesh,
  )
  workers = stack.enter_context(make_workers(config.rewards))
  judge = make_judge(workers, policy.tokenizer, accuracy=config.rewards.accuracy)
  if config.reward_model:
    model, found = load_reward_model(config.reward_model, policy.tokenizer, "reward_model")
    judge, digests = judge_by_model(judge, model.score_groups), digests | found
  digests |= policy_digests(config.model.path, policy.tokenizer)
  warmup = sft.prepare_warm_up(config, policy, mesh)
  digests |= {"warmup": warmup.digests["demonstrations"]} if warmup is not None else {}
  if policy.params is None and warmup is None:
    raise InputError(
      "model.path: empty, and no warmup.steps; expected a model or a warm-up, random answers teach nothing"
    )

  path = stack.enter_context(Workdir.open(workdir, config, digests)).path
  if (path / COUNTS).exists():
    return json.loads((path / COUNTS).read_text("utf-8"))
  preemption = stack.enter_context(Preemption())
  policy = sft.warm_up(config, policy, mesh, warmup, path, None, preemption)
  hand_over = make_handover(
    policy.params, num_layers=policy.model.num_layers, dtype=policy.model.compute_dtype, mesh=mesh
  )
  engine.load(hand_over(policy.params), 0)
  (path / "candidates").mkdir(exist_ok=True)
  candidates, counts = sample_candidates(
    asked,
    engine.generate,
    judge,
    samples=rollout.samples,
    round_size=rollout.prompts,
    prompt_format=prompt_format,
    directory=path / "candidates",
    preemption=preemption,
  )
  if source == Source.DISTILLATION:
    samples, found = _distilled(config, originals, candidates)
    return _finish(path, counts | found, samples, None)
  rows, found = rejection.select(candidates, **options)
  return _finish(path, counts | found, rows, best_over_worst(candidates))


def _asking(config: ml_collections.ConfigDict, source: Source) -> ml_collections.ConfigDict:
  """The `prompts` section by which the model is asked: of distillation under its system prompt."""
  asking = ml_collections.ConfigDict(config.prompts.to_dict())
  if source == Source.DISTILLATION:
    if asking.system:
      raise InputError(f"prompts.system: {asking.system!r}, expected none; the teacher's is distillation.system")
    if config.selection.keep != 1:
      raise InputError(f"selection.keep: {config.selection.keep}, expected 1, one answer of the teacher to a problem")
    if "{original}" not in config.distillation.original_template:
      raise InputError(
        f"distillation.original_template: {config.distillation.original_template!r} has no '{{original}}'"
      )
    if asking.chat:
      asking.system = _system(config)
    else:
      asking.template = _system(config) + asking.template
  return asking


def _system(config: ml_collections.ConfigDict) -> str:
  return config.distillation.system or (distillation.REFLECTION_PROMPT if config.prompts.chat else "")


def _originals(config: ml_collections.ConfigDict, asked: Sequence[Prompt]) -> list[Row]:
  """Of each prompt {"prompt", "answer"}: as the student is asked it, and the original answer."""
  section, plain = config.distillation, PromptFormat(template=config.prompts.template)
  # As they are in the file: a prompt has its reference in the place of a worked solution.
  rows = read_demonstrations(config.prompts)[0] if config.prompts.path else None
  found = []
  for prompt in asked:
    row = rows[prompt.index] if rows is not None else Row(prompt.row, f"arithmetic, row {prompt.index}")
    original = row.columns.get(section.original)
    if not isinstance(original, str) or not original.strip():
      raise InputError(f"{row.source}: {section.original} is {original!r}, expected the text of the original answer")
    answer = section.original_template.replace("{original}", original)
    found.append(Row({"prompt": asked_text(row.columns, plain), "answer": answer}, row.source))
  distillation.distillation_samples(found)  # raises on prompts that are messages
  return found


def _distilled(
  config: ml_collections.ConfigDict, originals: Sequence[Row], candidates: Sequence[Candidates]
) -> tuple[list[Mapping[str, Any]], dict[str, int]]:
  """Both samples of each problem; the teacher's where one of its answers was good enough."""
  rows, totals = [], {}
  for original, each in zip(originals, candidates, strict=True):
    best, counts = rejection.select([each], **config.selection.to_dict())
    totals = {name: totals.get(name, 0) + count for name, count in counts.items()}
    rows.append(Row({**original.columns, "reasoner": best[0]["completion"] if best else None}, original.source))
  form = distillation.Form.MESSAGES if config.prompts.chat else distillation.Form.TEXT
  samples, counts = distillation.distillation_samples(rows, system=_system(config), form=form)
  return [sample.columns for sample in samples], totals | counts


def _finish(
  path: pathlib.Path,
  counts: Mapping[str, int],
  demonstrations: Sequence[Mapping[str, Any]],
  pairs: Sequence[Mapping[str, Any]] | None,
) -> dict[str, int]:
  """Writes what was collected, the counts last, which is how a finished collection is known."""
  if not demonstrations:
    said = ", ".join(f"{name} {count}" for name, count in counts.items())
    raise InputError(f"{path}: no demonstration is left ({said}); expected a lower selection.threshold or more samples")
  counts = {**counts, "demonstrations": len(demonstrations)} | ({} if pairs is None else {"pairs": len(pairs)})
  for name, rows in ((DEMONSTRATIONS, demonstrations), (PAIRS, pairs)):
    if rows is not None:
      atomic_files.write_text(path / name, "".join(json.dumps(row) + "\n" for row in rows))
  atomic_files.write_text(path / COUNTS, json.dumps(counts, indent=2) + "\n")
  return counts
