"""Writes what raters said as rows that training reads as they are.

DIR/export gets, by what raters did:
- pairs: pairs.jsonl (chosen, rejected, strength, and "edited" where a rater edited the better answer), margins.jsonl
  (the same without edits, so that each pair has its strength: `margins` of a reward model need it), soft.jsonl (the
  same with a soft target, the share of raters; it has all pairs, also those that are about the same or have no
  majority: for reward models), demonstrations.jsonl (edited answers);
- ranking: rankings.jsonl;
- demonstrations: demonstrations.jsonl;
- accept: demonstrations.jsonl (accepted rows, edited ones with the edit), rejected.jsonl; both with a "label", so that
  KTO reads the two together;
- all: votes.jsonl, one row for each vote; summary.json; strengths.png of pairs.

A row keeps the columns of the row that was rated, and gets "agree", the share of votes that say what the row says, and
"votes", their number.
"""

import collections
import json
import statistics
from collections.abc import Mapping
from typing import Any

from posttrain_jax import atomic_files
from posttrain_jax.data.prompts import PROMPT_FIELDS
from posttrain_jax.labelling import agreement, consensus, timing
from posttrain_jax.labelling.items import Item, RatingKind
from posttrain_jax.labelling.strengths_figure import plot_strengths, strength_counts
from posttrain_jax.labelling.study import LabelStudy
from posttrain_jax.labelling.votes import Vote, Votes, read_votes

_SAID = ("answers", "ranks", "models", "chosen", "rejected", "edited", "strength", "probability", "accept")
Files = dict[str, list[dict[str, Any]]]


def export(study: LabelStudy, *, idle_seconds: float) -> dict[str, Any]:
  """Writes DIR/export and returns its summary, which is also in summary.json.

  Raters may go on meanwhile; what they said until now is exported.

  Args:
    study: the study.
    idle_seconds: bound on the time for an item, beyond which a rater is taken to pause.

  Raises:
    InputError: if the log is broken or of another study, or if a library is missing.
  """
  agreement.check_installed()
  votes, kind = read_votes(study), study.settings.kind
  files, counts = _WRITERS[kind](study, votes)
  files["votes.jsonl"] = [_vote_row(vote, study.items[item]) for item, said in votes.by_item.items() for vote in said]
  folder = study.path / "export"
  folder.mkdir(exist_ok=True)
  for name, rows in files.items():
    atomic_files.write_rows(folder / name, rows)
  summary = {
    "kind": str(kind),
    "items": len(study.items),
    "rated": len(votes.by_item),
    "votes": sum(map(len, votes.by_item.values())),
    **counts,
    "files": {name: len(rows) for name, rows in files.items()},
    "raters": {rater: _rater(votes, rater) for rater in study.settings.raters},
    "agreement": agreement.agreement(kind, votes.by_item, study.settings.raters),
    "seconds": timing.time_per_item(votes.seconds, bound=idle_seconds),
    "export": str(folder),
  }
  if kind == RatingKind.PAIRS:
    plot_strengths(folder / "strengths.png", strength_counts(votes.by_item, study.items))
  atomic_files.write_text(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
  return summary


def _pairs(study: LabelStudy, votes: Votes) -> tuple[Files, dict[str, Any]]:
  files: Files = {name: [] for name in ("pairs.jsonl", "margins.jsonl", "soft.jsonl", "demonstrations.jsonl")}
  counts = {"no_majority": 0, "about_the_same": 0, "edited": 0}
  wins: collections.Counter[str] = collections.Counter()
  for name, said in votes.by_item.items():
    item, decision = study.items[name], consensus.decide([vote.label for vote in said])
    share = statistics.mean(0.5 if vote.label["better"] is None else vote.label["better"] for vote in said)
    likely = int(share > 0.5)
    soft = {"probability": round(max(share, 1 - share), 4)}
    files["soft.jsonl"].append(_pair(item, likely, decision) | soft)
    if decision.choice is None:
      counts["no_majority"] += 1
      continue
    if decision.choice == consensus.TIED:
      counts["about_the_same"] += 1
      continue
    row = _pair(item, decision.choice, decision) | {"strength": str(decision.strength)}
    wins[item.models[decision.choice] or ""] += 1
    files["margins.jsonl"].append(row)
    if decision.edited is None:
      files["pairs.jsonl"].append(row)
      continue
    counts["edited"] += 1
    files["pairs.jsonl"].append({**row, "edited": item.with_text(decision.choice, decision.edited)})
    files["demonstrations.jsonl"].append({**_prompt_columns(item), "completion": decision.edited})
  strict = [vote for said in votes.by_item.values() for vote in said if vote.label["better"] is not None]
  first = [vote.label["better"] == vote.order[0] for vote in strict]
  counts["first_shown_preferred"] = round(statistics.mean(first), 4) if first else None
  counts["wins"] = {model: count for model, count in sorted(wins.items()) if model}
  return files, counts


def _pair(item: Item, better: int, decision: consensus.Decision) -> dict[str, Any]:
  row = {**_kept(item), "chosen": item.raw_answers[better], "rejected": item.raw_answers[1 - better]}
  if any(item.models):
    row |= {"chosen_from": item.models[better], "rejected_from": item.models[1 - better]}
  return row | {"agree": round(decision.agree, 4), "votes": decision.votes}


def _rankings(study: LabelStudy, votes: Votes) -> tuple[Files, dict[str, Any]]:
  rows, tied = [], 0
  for name, said in votes.by_item.items():
    item = study.items[name]
    ranks, agree = consensus.joint_ranks([vote.label["ranks"] for vote in said])
    if len(set(ranks)) == 1:  # says nothing, and readers refuse it
      tied += 1
      continue
    models = {"models": list(item.models)} if any(item.models) else {}
    answers = {"answers": list(item.raw_answers), "ranks": ranks}
    rows.append({**_kept(item), **answers, **models, "agree": round(agree, 4), "votes": len(said)})
  return {"rankings.jsonl": rows}, {"about_the_same": tied}


def _demonstrations(study: LabelStudy, votes: Votes) -> tuple[Files, dict[str, Any]]:
  rows = [
    {**_prompt_columns(study.items[name]), "completion": vote.label["text"], "rater": vote.rater}
    for name, said in votes.by_item.items()
    for vote in said
  ]
  return {"demonstrations.jsonl": rows}, {}


def _accepted(study: LabelStudy, votes: Votes) -> tuple[Files, dict[str, Any]]:
  files: Files = {"demonstrations.jsonl": [], "rejected.jsonl": []}
  counts = {"no_majority": 0, "edited": 0}
  for name, said in votes.by_item.items():
    item, decision = study.items[name], consensus.decide([vote.label for vote in said])
    if decision.choice is None:
      counts["no_majority"] += 1
      continue
    row = {name: value for name, value in item.columns.items() if name != "accept"}
    row |= {"label": bool(decision.choice), "agree": round(decision.agree, 4), "votes": decision.votes}
    if decision.edited is not None:
      counts["edited"] += 1
      row[_answer_column(row)] = item.with_text(0, decision.edited)
    files["demonstrations.jsonl" if decision.choice else "rejected.jsonl"].append(row)
  return files, counts


_WRITERS = {
  RatingKind.PAIRS: _pairs,
  RatingKind.RANKING: _rankings,
  RatingKind.DEMONSTRATIONS: _demonstrations,
  RatingKind.ACCEPT: _accepted,
}


def _kept(item: Item) -> dict[str, Any]:
  return {name: value for name, value in item.columns.items() if name not in _SAID}


def _prompt_columns(item: Item) -> dict[str, Any]:
  """Returns a row's columns with the prompt as "prompt" and without what was said to it."""
  field = next((name for name in PROMPT_FIELDS if item.columns.get(name) is not None), None)
  prompt = item.columns[field] if field else [{"role": role, "content": text} for role, text in item.prompt]
  left = (*_SAID, *PROMPT_FIELDS, "chosen_from", "rejected_from")
  return {**{name: value for name, value in item.columns.items() if name not in left}, "prompt": prompt}


def _answer_column(row: Mapping[str, Any]) -> str:
  return next(name for name in ("messages", "completion", "answer") if row.get(name) is not None)


def _rater(votes: Votes, rater: str) -> dict[str, Any]:
  right = votes.checks[rater]
  return {
    "labelled": votes.labelled[rater],
    "due": votes.due[rater],
    "skipped": votes.skipped[rater],
    "checks": len(right),
    "checks_right": round(sum(right) / len(right), 4) if right else None,
  }


def _vote_row(vote: Vote, item: Item) -> dict[str, Any]:
  models = {"models": list(item.models)} if any(item.models) else {}
  return {"item": vote.item, "rater": vote.rater, **vote.label, "order": list(vote.order), **models, "at": vote.at}
