"""Draws how strongly raters prefer."""

import collections
import pathlib
from collections.abc import Mapping, Sequence

from posttrain_jax.data.preference_rows import Strength
from posttrain_jax.labelling.items import Item
from posttrain_jax.labelling.votes import Vote
from posttrain_jax.reports.picture import COLORS, MUTED, picture

_WORDS = {
  Strength.SIGNIFICANTLY: "significantly\nbetter",
  Strength.BETTER: "better",
  Strength.SLIGHTLY: "slightly\nbetter",
  Strength.NEGLIGIBLY: "marginally\nbetter",
}
_TIE, _NO_MODEL = "about\nthe same", "all answers"


def strength_counts(
  votes: Mapping[str, Sequence[Vote]], items: Mapping[str, Item]
) -> dict[str, collections.Counter[str]]:
  """Counts the strengths of all votes on pairs by the model of the better answer.

  Ties count under "". If rows do not name models, all count under one name.
  """
  found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
  for item, said in votes.items():
    for vote in said:
      better = vote.label["better"]
      if better is None:
        found[""][_TIE] += 1
      else:
        model = items[item].models[better] or _NO_MODEL
        found[model][_WORDS[Strength(vote.label["strength"])]] += 1
  return dict(found)


def plot_strengths(path: pathlib.Path, counts: Mapping[str, Mapping[str, int]]) -> None:
  """Writes bars of the strengths, one colour for each model whose answer is the better one.

  Args:
    path: of the PNG; an existing one is replaced.
    counts: what `strength_counts` returns.
  """
  words = [*_WORDS.values(), _TIE]
  words = words if "" in counts else words[:-1]
  with picture(path, width=6, height=3.2) as figure:
    axes = figure.subplots()
    bottom = dict.fromkeys(words, 0)
    colors = {"": MUTED} | dict(zip(sorted(set(counts) - {""}), COLORS * len(counts)))
    for model in sorted(counts, key=lambda name: (not name, name)):
      heights = [counts[model].get(word, 0) for word in words]
      options = dict(color=colors[model], label=model or "neither", width=0.7)
      axes.bar(words, heights, bottom=list(bottom.values()), **options)
      bottom = {word: bottom[word] + height for word, height in zip(words, heights)}
    for place, total in enumerate(bottom.values()):
      axes.annotate(str(total), (place, total), ha="center", va="bottom", xytext=(0, 2), textcoords="offset points")
    axes.set_ylabel("votes")
    axes.set_title(f"How much better: {sum(bottom.values())} votes")
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.1)
    if set(counts) - {"", _NO_MODEL}:
      axes.legend(title="better answer by", frameon=False)
