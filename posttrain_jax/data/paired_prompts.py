"""Reads prompts that differ in the name of a group alone.

A file has a template a line: {"attribute": "nationality", "template": "My neighbour is {group}. ...", "groups":
["German", ...]}. Templates of one attribute name the same groups. In the world as it is, nothing that a template asks
depends on the group.
"""

import dataclasses

from posttrain_jax.data import prompts
from posttrain_jax.data.prompts import Row
from posttrain_jax.types import InputError

_GROUP = "{group}"


@dataclasses.dataclass(frozen=True)
class PairedPrompts:
  """Describes the templates of one attribute.

  Attributes:
    attribute: what the groups differ in.
    groups: names of the groups.
    templates: texts, each with {group} in it.
  """

  attribute: str
  groups: tuple[str, ...]
  templates: tuple[str, ...]

  def texts(self) -> list[list[str]]:
    """Returns each template with each group."""
    return [[template.replace(_GROUP, group) for group in self.groups] for template in self.templates]


def read_paired_prompts(path: str) -> list[PairedPrompts]:
  """Reads FILE.jsonl.

  Raises:
    InputError: if the file cannot be read, if a line lacks something, or if an attribute has unlike groups.
  """
  found: dict[str, PairedPrompts] = {}
  for attribute, template, groups in map(_line, prompts.read_jsonl(path)):
    known = found.get(attribute, PairedPrompts(attribute, groups, ()))
    if known.groups != groups:
      raise InputError(f"{path}: attribute {attribute!r} has other groups in two lines, expected the same ones")
    found[attribute] = dataclasses.replace(known, templates=(*known.templates, template))
  return list(found.values())


def _line(row: Row) -> tuple[str, str, tuple[str, ...]]:
  attribute, template, groups = (row.columns.get(name) for name in ("attribute", "template", "groups"))
  if not isinstance(attribute, str) or not isinstance(template, str) or template.count(_GROUP) < 1:
    raise InputError(f"{row.source}: expected an attribute and a template with {_GROUP} in it")
  if not isinstance(groups, list) or len({*groups}) < 2 or not all(isinstance(each, str) for each in groups):
    raise InputError(f"{row.source}: groups: {groups!r:.60}, expected a list of at least two names")
  return attribute, template, tuple(groups)
