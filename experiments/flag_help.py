"""Lists a program's flags for --help, in groups, with what they mean."""

import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence

from absl import flags

_WIDTH, _INDENT = 118, 6
_KINDS = {"int": "INT", "float": "NUMBER", "bool": "true|false"}

_REPEAT = "repeat this option to specify a list of values"  # absl writes it after the help of such flags

Groups = Mapping[str, Sequence[flags.FlagHolder]]


def lines(own: Sequence[flags.Flag], groups: Groups | None = None, required: Collection[str] = ()) -> Iterator[str]:
  """Yields the lines of the list: the flags of no group first, then group after group.

  Args:
    own: the program's flags.
    groups: the flags of each group, by its title.
    required: names of the flags that must be given.
  """
  yield "flags, with their defaults"
  by_name, groups = {flag.name: flag for flag in own}, groups or {}
  grouped = {holder.name for group in groups.values() for holder in group}
  listed = {"": [name for name in by_name if name not in grouped]}
  listed |= {title: [holder.name for holder in group] for title, group in groups.items()}
  for title, names in listed.items():
    if title:
      yield f"\n{title}"
    for name in names:
      yield f"  {_usage(by_name[name])}" + ("  (required)" if name in required else "")
      indent = " " * _INDENT
      yield from textwrap.wrap(about(by_name[name]), _WIDTH, initial_indent=indent, subsequent_indent=indent)


def _usage(flag: flags.Flag) -> str:
  """Returns --name=DEFAULT, or what kind of value is expected where there is no default."""
  if flag.default not in (None, [], ""):
    return f"--{flag.name}={str(flag.default).lower() if flag.boolean else flag.default}"
  kind = "|".join(getattr(flag.parser, "enum_values", ())) or _KINDS.get(flag.flag_type(), "TEXT")
  return f"--{flag.name}={kind}"


def about(flag: flags.Flag) -> str:
  """Returns what a flag means, and its choices where the default hides them."""
  said = " ".join(flag.help.replace(_REPEAT, "").split()).rstrip("; ")
  choices = getattr(flag.parser, "enum_values", ())
  said = said.partition(">: ")[2] if choices else said  # absl puts <a|b> before it
  return f"{said}: {', '.join(choices)}" if choices and flag.default is not None else said
