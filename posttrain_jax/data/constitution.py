"""Reads a constitution: numbered principles with priorities, and hard constraints.

A file is Markdown. Under "## Priorities" stands a numbered list, the highest first. Under "## Principles" each
principle has a heading "### NUMBER. NAME", text for people, and fields "- FIELD: VALUE" (`Principle`).
"""

import dataclasses
import pathlib
import re

from posttrain_jax.types import InputError

_HEADING = re.compile(r"### (\d+)\. (.+)")
_FIELD = re.compile(r"- (\w+): (.+)")
_NUMBERED = re.compile(r"(\d+)\. (.+)")
_NEEDED = ("priority", "about", "says", "paraphrase")
_KNOWN = (*_NEEDED, "hard")


@dataclasses.dataclass(frozen=True)
class Principle:
  """Describes a principle.

  Attributes:
    number: in the file, from 1 on.
    name: for tables.
    priority: place in the list of priorities, 0 for the highest.
    about: what it is about, such as categories of harm.
    says: what a critic or a judge reads.
    paraphrase: the same in other words.
    hard: whether it decides whatever the other principles say.
  """

  number: int
  name: str
  priority: int
  about: tuple[str, ...]
  says: str
  paraphrase: str
  hard: bool = False


@dataclasses.dataclass(frozen=True)
class Constitution:
  """Holds priorities and principles; changes return another constitution.

  Attributes:
    priorities: their names, the highest first.
    principles: in the order of their numbers.
  """

  priorities: tuple[str, ...]
  principles: tuple[Principle, ...]

  def swapped(self, one: str, other: str) -> "Constitution":
    """Exchanges the places of two priorities.

    Raises:
      InputError: if there is no such priority.
    """
    for name in (one, other):
      if name not in self.priorities:
        raise InputError(f"swapped: no priority {name!r}, expected one of {', '.join(self.priorities)}")
    places = {self.priorities.index(one): self.priorities.index(other)}
    places |= {place: before for before, place in places.items()}
    names = list(self.priorities)
    for before, place in places.items():
      names[place] = self.priorities[before]
    changed = (dataclasses.replace(each, priority=places.get(each.priority, each.priority)) for each in self.principles)
    return Constitution(tuple(names), tuple(changed))

  def without(self, number: int) -> "Constitution":
    """Removes a principle.

    Raises:
      InputError: if there is no such principle.
    """
    kept = tuple(each for each in self.principles if each.number != number)
    if len(kept) == len(self.principles):
      raise InputError(f"removed: no principle {number}, expected one of 1 to {len(self.principles)}")
    return Constitution(self.priorities, kept)


def read_constitution(path: str) -> Constitution:
  """Reads a constitution.

  Raises:
    InputError: if the file cannot be read, or naming the line that is not as expected.
  """
  try:
    lines = pathlib.Path(path).read_text("utf-8").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f"{path}: cannot be read ({error}), expected a constitution") from None
  priorities, found, section = [], [], ""
  for number, line in enumerate(lines, start=1):
    where = f"{path}:{number}"
    if line.startswith("## "):
      section = line[3:].strip()
    elif section == "Priorities" and (match := _NUMBERED.fullmatch(line)):
      _check_number(where, match[1], len(priorities))
      priorities.append(match[2].strip())
    elif section == "Principles" and line.startswith("###"):
      match = _HEADING.fullmatch(line)
      if match is None:
        raise InputError(f"{where}: found {line!r}, expected '### NUMBER. NAME'")
      _check_number(where, match[1], len(found))
      found.append((where, match[2].strip(), {}))
    elif section == "Principles" and line.startswith("- "):
      match = _FIELD.fullmatch(line)
      if match is None or match[1] not in _KNOWN or not found:
        raise InputError(f"{where}: found {line!r}, expected '- FIELD: VALUE' with one of {', '.join(_KNOWN)}")
      found[-1][2][match[1]] = (where, match[2].strip())
  if not priorities or not found:
    raise InputError(f"{path}: found {len(priorities)} priorities and {len(found)} principles, expected some of each")
  return Constitution(tuple(priorities), tuple(_principle(i, *each, priorities) for i, each in enumerate(found, 1)))


def _check_number(where: str, found: str, before: int) -> None:
  if int(found) != before + 1:
    raise InputError(f"{where}: found number {found}, expected {before + 1}")


def _principle(
  number: int, where: str, name: str, fields: dict[str, tuple[str, str]], priorities: list[str]
) -> Principle:
  missing = [field for field in _NEEDED if field not in fields]
  if missing:
    raise InputError(f"{where}: principle {number} has no {', '.join(missing)}, expected {', '.join(_NEEDED)}")
  place, priority = fields["priority"]
  if priority not in priorities:
    raise InputError(f"{place}: priority {priority!r}, expected one of {', '.join(priorities)}")
  place, hard = fields.get("hard", (where, "no"))
  if hard not in ("yes", "no"):
    raise InputError(f"{place}: hard {hard!r}, expected yes or no")
  about = tuple(each.strip() for each in fields["about"][1].split(","))
  says, paraphrase = (fields[field][1] for field in ("says", "paraphrase"))
  return Principle(number, name, priorities.index(priority), about, says, paraphrase, hard == "yes")
