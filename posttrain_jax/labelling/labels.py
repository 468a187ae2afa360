"""Checks what a rater says about an item.

A browser speaks of answers by their places on its page; what is stored speaks of the item's own order. A label is one
of these:
- pairs: {"better": 0, 1, or None for about the same, "strength": a `Strength` or None, "edited": text or None};
- ranking: {"ranks": the rank of each answer, 0 for the best, equal for ties, without gaps};
- demonstrations: {"text"};
- accept: {"accepted": true or false, "edited": text or None};
- any kind: {"skipped": true}, if the rater cannot say.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.data.preference_rows import Strength
from posttrain_jax.labelling.items import Item, RatingKind

SKIPPED = {"skipped": True}


class BadLabel(Exception):
  """Says what is wrong with a label, in words for the rater."""


@dataclasses.dataclass(frozen=True)
class LabelRules:
  """Holds what raters of a study may say.

  Attributes:
    kind: what they do.
    ties: whether two answers may be about the same.
    edits: whether they may edit an answer.
    most_characters: of a text that they write.
  """

  kind: RatingKind
  ties: bool
  edits: bool
  most_characters: int


def checked(given: Any, item: Item, order: Sequence[int], rules: LabelRules) -> dict[str, Any]:
  """Returns what a rater says, in the item's own order.

  Args:
    given: from a browser, with places on its page.
    item: the item.
    order: the answer at each place.
    rules: what may be said.

  Raises:
    BadLabel: if it is no label of this kind.
  """
  if not isinstance(given, dict):
    raise BadLabel("expected an object")
  if given == SKIPPED:
    return dict(SKIPPED)
  expected = _FIELDS[rules.kind]
  if set(given) != expected:
    raise BadLabel(f"found the fields {', '.join(sorted(map(str, given))) or 'none'}, expected {_listed(expected)}")
  if rules.kind == RatingKind.PAIRS:
    return _pair(given, item, order, rules)
  if rules.kind == RatingKind.RANKING:
    return {"ranks": _ranks(given["ranks"], order, ties=rules.ties)}
  if rules.kind == RatingKind.DEMONSTRATIONS:
    return {"text": _text(given["text"], rules)}
  if not isinstance(given["accepted"], bool):
    raise BadLabel("accepted: expected true or false")
  edited = _edited(given["edited"], item.answers[0], rules)
  if edited is not None and not given["accepted"]:
    raise BadLabel("an edited answer is one that is accepted: accept it, or undo the edit")
  return {"accepted": given["accepted"], "edited": edited}


def as_shown(label: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
  """Returns a stored label with places on the page, the inverse of `checked`."""
  if label.get("better") is not None:
    return {**label, "better": list(order).index(label["better"])}
  if "ranks" in label:
    return {"ranks": [label["ranks"][answer] for answer in order]}
  return dict(label)


def is_right(label: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
  """Tells whether a rater's label agrees with the known one of a check.

  A ranking is right if no pair that the known one orders is tied or the other way round.
  """
  if "ranks" not in known:
    return all(label.get(name) == value for name, value in known.items())
  ranks, right = label["ranks"], known["ranks"]
  places = range(len(right))
  return all(ranks[i] < ranks[j] for i in places for j in places if right[i] < right[j])


_FIELDS = {
  RatingKind.PAIRS: {"better", "strength", "edited"},
  RatingKind.RANKING: {"ranks"},
  RatingKind.DEMONSTRATIONS: {"text"},
  RatingKind.ACCEPT: {"accepted", "edited"},
}


def _pair(given: Mapping[str, Any], item: Item, order: Sequence[int], rules: LabelRules) -> dict[str, Any]:
  better, strength = given["better"], given["strength"]
  if better is None:
    if not rules.ties:
      raise BadLabel("say which answer is better")
    if strength is not None or given["edited"] is not None:
      raise BadLabel("answers that are about the same have no strength and no edit")
    return {"better": None, "strength": None, "edited": None}
  if type(better) is not int or better not in (0, 1):
    raise BadLabel("better: expected 0 or 1")
  if not isinstance(strength, str) or strength not in list(Strength):
    raise BadLabel("say by how much it is better")
  edited = _edited(given["edited"], item.answers[order[better]], rules)
  if edited is not None and edited.strip() == item.answers[order[1 - better]].strip():
    raise BadLabel("the edited answer equals the other one, which is then the better one")
  return {"better": order[better], "strength": strength, "edited": edited}


def _ranks(given: Any, order: Sequence[int], *, ties: bool) -> list[int]:
  if not isinstance(given, list) or len(given) != len(order) or not all(type(rank) is int for rank in given):
    raise BadLabel(f"ranks: expected {len(order)} whole numbers")
  if sorted(set(given)) != list(range(len(set(given)))):
    raise BadLabel("ranks: expected 0 for the best, and no gap")
  if not ties and len(set(given)) < len(given):
    raise BadLabel("two answers have one rank, expected an order of all")
  return [rank for _, rank in sorted(zip(order, given))]


def _edited(given: Any, before: str, rules: LabelRules) -> str | None:
  """Returns an edited text; None if nothing was changed."""
  if given is None:
    return None
  if not rules.edits:
    raise BadLabel("answers are not edited in this study")
  text = _text(given, rules)
  return None if text.strip() == before.strip() else text


def _text(given: Any, rules: LabelRules) -> str:
  if not isinstance(given, str) or not given.strip():
    raise BadLabel("write some text")
  if len(given) > rules.most_characters:
    raise BadLabel(f"the text has {len(given)} characters, expected at most {rules.most_characters}")
  try:
    given.encode()
  except UnicodeEncodeError:
    raise BadLabel("the text has half a character, which cannot be stored") from None
  if "\0" in given:
    raise BadLabel("the text has a null character, which cannot be shown")
  return given


def _listed(names: set[str]) -> str:
  return ", ".join(sorted(names))
