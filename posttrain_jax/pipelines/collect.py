"""Makes demonstrations and pairs of answers for SFT, reward models and DPO.

Rejection sampling keeps the best of K answers (Llama 3, arXiv:2407.21783). Distillation gives the student both the
original answer and the teacher's, verified (DeepSeek-V3, arXiv:2412.19437). Edited answers stand above the chosen and
the rejected one (Llama 3). Rows hold what was asked in the form in which it was asked, as text or messages, so they are
trained on with the default `demonstrations.template`, `chat` and `system`.
"""

import contextlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from posttrain_jax import atomic_files
from posttrain_jax.assembly.hand_over import sampler_params
from posttrain_jax.assembly.judges import judge_by_functions, judge_by_model
from posttrain_jax.assembly.rollout_engine import describe_ends, longest, make_engine
from posttrain_jax.data import arithmetic, distillation, edited, graded_answers, prompts, sources
from posttrain_jax.data.prompts import PromptFormat, Row
from posttrain_jax.data.rejection import Candidates
from posttrain_jax.pipelines import scorers
from posttrain_jax.pipelines.collect_settings import (
  DemonstrationSource,
  EditedCollection,
  EditedSettings,
  SampledCollection,
)
from posttrain_jax.pipelines.method_assembly import MethodAssembly
from posttrain_jax.rollouts.candidates import asked_text, best_over_worst, sample_candidates
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import as_config, parse
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.types import InputError, Prompt

DEMONSTRATIONS, PAIRS, COUNTS = "demonstrations.jsonl", "pairs.jsonl", "counts.json"


def collect(config: ml_collections.ConfigDict, workdir: str) -> dict[str, int]:
  """Collects answers, or goes on with a collection that was stopped.

  Args:
    config: see `configs/tiny_collect.py`, `configs/tiny_distillation.py` and `configs/tiny_edited.py`.
    workdir: DIR; gets config.json, demonstrations.jsonl, pairs.jsonl (not of distillation), and at the end counts.json.

  Returns:
    Counts of prompts and answers, by what was done with them; see `data.rejection` and `data.distillation`.

  Raises:
    InputError: if config or input is not fit for use, before anything is compiled; if DIR holds another collection; or
      if no demonstration is left.
    Preempted: after SIGTERM and a finished round.
  """
  with contextlib.ExitStack() as stack:
    if config.get("source") == DemonstrationSource.EDITED:
      return _collect_edited(parse(EditedCollection, config), workdir, stack)
    return _collect_sampled(parse(SampledCollection, config), workdir, stack)


def _collect_edited(settings: EditedCollection, workdir: str, stack: contextlib.ExitStack) -> dict[str, int]:
  rows, left_out, digest = _edited_rows(settings.edited)
  targets, pairs = ([row.columns for row in made] for made in (edited.targets(rows), edited.ranked_pairs(rows)))
  path = stack.enter_context(Workdir.open(workdir, as_config(settings), {"edited": digest})).path
  return _finish(path, {"rows": len(rows), "left_out": left_out}, targets, pairs)


def _edited_rows(section: EditedSettings) -> tuple[list[Row], int, str]:
  """Returns (rows, number of procedural problems that have nothing to edit, digest)."""
  if section.path:
    rows, digest = sources.read_rows(section.path)
    return rows, 0, digest
  problems = arithmetic.problems(arithmetic.Split.TRAIN, per_difficulty=section.per_difficulty, seed=section.seed)
  form = graded_answers.GradingForm.EDITED
  written, left_out = graded_answers.graded_answers(problems, form=form, noise=section.noise, seed=section.seed)
  return prompts.named_rows(written, "edited answers"), left_out, prompts.rows_digest(written)


def _collect_sampled(settings: SampledCollection, workdir: str, stack: contextlib.ExitStack) -> dict[str, int]:
  rollout, asking = settings.rollout, settings.asking
  run = MethodAssembly(settings, stack, warmup=settings.warmup)
  asked = run.prompts(asking, max_prompt_length=rollout.max_prompt_length)
  originals = _originals(settings, asked) if settings.source == DemonstrationSource.DISTILLATION else []
  engine = make_engine(
    rollout,
    run.policy,
    run.mesh,
    seed=stream_seed(settings.seed, Stream.ROLLOUT),
    max_prompt_length=longest(asked),
    share=rollout.samples,
  )
  workers, by_model = run.workers(settings.rewards), bool(settings.reward_model or settings.judge)
  judge = judge_by_functions(settings.rewards, workers, run.policy.tokenizer, by_model=by_model)
  run.check_references(workers, by_model=by_model)
  run.require_trained_policy()
  if by_model:
    score = (
      scorers.generative_scorer(run, settings.judge, engines=[engine])
      if settings.judge
      else scorers.reward_scorer(run, settings.reward_model, "reward_model", engines=[engine])
    )
    judge = judge_by_model(judge, score)
  run.tell(describe_ends(run.policy.tokenizer, engine.sampling))

  directory, preemption = run.open_workdir(workdir)
  path = directory.path
  if (path / COUNTS).exists():
    return json.loads((path / COUNTS).read_text("utf-8"))
  run.finish(directory, preemption, save_model=False)
  engine.load(sampler_params(run.policy, run.mesh), 0)
  (path / "candidates").mkdir(exist_ok=True)
  candidates, counts = sample_candidates(
    asked,
    engine.generate,
    judge,
    samples=rollout.samples,
    round_size=rollout.prompts,
    prompt_format=asking.prompt_format,
    directory=path / "candidates",
    preemption=preemption,
  )
  if settings.source == DemonstrationSource.DISTILLATION:
    samples, found = _distilled(settings, originals, candidates)
    return _finish(path, counts | found, samples, None)
  rows, found = settings.selection(candidates)
  return _finish(path, counts | found, rows, best_over_worst(candidates))


def _originals(settings: SampledCollection, asked: Sequence[Prompt]) -> list[Row]:
  """Returns a row for each prompt.

  "prompt" is the prompt as the student is asked it, "answer" the original answer.
  """
  section, plain = settings.distillation, PromptFormat(template=settings.prompts.template)
  # Rows of the file itself: a prompt's row has the reference answer where the file has a worked solution.
  rows = (
    sources.read_rows(settings.prompts.path)[0][: settings.prompts.limit or None] if settings.prompts.path else None
  )
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
  settings: SampledCollection, originals: Sequence[Row], candidates: Sequence[Candidates]
) -> tuple[list[Mapping[str, Any]], dict[str, int]]:
  """Returns the samples of each problem.

  They are the original, and the teacher's if one of its answers was good enough.
  """
  rows, totals = [], {}
  for original, each in zip(originals, candidates, strict=True):
    best, counts = settings.selection([each])
    totals = {name: totals.get(name, 0) + count for name, count in counts.items()}
    rows.append(Row({**original.columns, "reasoner": best[0]["completion"] if best else None}, original.source))
  form = distillation.RowForm.MESSAGES if settings.prompts.chat else distillation.RowForm.TEXT
  samples, counts = distillation.distillation_samples(rows, system=settings.teacher_system, form=form)
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
      atomic_files.write_rows(path / name, rows)
  atomic_files.write_text(path / COUNTS, json.dumps(counts, indent=2) + "\n")
  return counts
