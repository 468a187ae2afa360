"""Reads a compiled program's text: collectives, arrays, loops and in-place updates.

Shapes are those on one device. A collective that the compiler overlaps with arithmetic appears up to three times
(start, middle, done) on one channel, and is counted once. The text does not say how often a loop runs, so a collective
is reported with the number of loops around it.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Sequence

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = ")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_CALLED = re.compile(
  r"\b(calls|to_apply|body|condition|branch_computations|called_computations)=(\{[^}]*\}|%?[\w.\-]+)"
)
_BITS = {"pred": 8, "bool": 8, "token": 0, "opaque": 0}


@dataclasses.dataclass(frozen=True)
class Array:
  """Describes an array on one device.

  Attributes:
    dtype: its name in HLO, such as "bf16", or in NumPy, such as "bfloat16".
    shape: its sizes.
  """

  dtype: str
  shape: tuple[int, ...]

  @property
  def size(self) -> int:
    """Returns the number of elements."""
    return math.prod(self.shape)

  @property
  def bytes(self) -> int:
    """Returns the bytes, without padding."""
    bits = _BITS.get(self.dtype)
    if bits is None:
      bits = int(re.search(r"\d+", self.dtype)[0])  # s32, bf16, f8e4m3fn, c64
    return -(-self.size * bits // 8)

  def __str__(self) -> str:
    return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclasses.dataclass(frozen=True)
class Instruction:
  """Describes one instruction.

  Attributes:
    name: its name in the text.
    opcode: what it does, such as "all-gather-start".
    arrays: its results; several if it returns a tuple.
    operands: its inputs.
    computation: name of the computation that it is in.
    depth: number of loops around it.
    attributes: the rest of its line.
  """

  name: str
  opcode: str
  arrays: tuple[Array, ...]
  operands: tuple[Array, ...]
  computation: str
  depth: int
  attributes: str

  @property
  def operation(self) -> str:
    """Returns JAX's name of its source operation; empty if the text has none."""
    found = re.search(r'op_name="([^"]*)"', self.attributes)
    return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Collective:
  """Describes one communication between devices.

  Attributes:
    kind: one of `KINDS`.
    bytes: of its operands or its results on one device, the larger of the two.
    arrays: operands and results.
    depth: number of loops around it.
    operation: JAX's name of the operation that it comes from.
  """

  kind: str
  bytes: int
  arrays: tuple[Array, ...]
  depth: int
  operation: str


def instructions(text: str) -> list[Instruction]:
  """Parses all instructions of a module's text, also those inside fusions."""
  parsed, called, entry = [], collections.defaultdict(list), None
  computation = ""
  for line in text.splitlines():
    if found := _COMPUTATION.match(line):
      computation = found[2]
      entry = computation if found[1] else entry
    elif found := _INSTRUCTION.match(line):
      rest = line[found.end() :]
      kind, rest = _split_type(rest)
      opcode, _, rest = rest.lstrip().partition("(")
      inside, attributes = _split_parenthesis(rest)
      parsed.append((computation, found[1], opcode, _arrays(kind), inside, attributes))
      for role, names in _CALLED.findall(attributes):
        loops = 1 if role in ("body", "condition") else 0
        called[computation] += [(name, loops) for name in re.findall(r"[\w.\-]+", names)]
  depth = _depths(called, entry)
  made = {(computation, name): arrays for computation, name, _, arrays, _, _ in parsed}

  def operands(computation: str, inside: str) -> tuple[Array, ...]:
    names = [piece.split()[-1].lstrip("%") for piece in _pieces(inside) if piece.strip()]
    return tuple(array for name in names for array in made.get((computation, name), ()))

  return [
    Instruction(name, opcode, arrays, operands(computation, inside), computation, depth.get(computation, 0), attributes)
    for computation, name, opcode, arrays, inside, attributes in parsed
  ]


def collectives(found: Sequence[Instruction]) -> list[Collective]:
  """Returns the collectives among a module's instructions, each once."""
  once = {}
  for each in found:
    kind = each.opcode.removesuffix("-start")
    if kind not in KINDS:
      continue
    if each.computation.startswith("all-reduce-scatter"):  # on TPUs this is a fusion around an all-reduce
      kind = "reduce-scatter"
    channel = re.search(r"channel_id=\d+", each.attributes)
    arrays = (*each.operands, *each.arrays)
    took, made = (sum(array.bytes for array in part) for part in (each.operands, each.arrays))
    if each.opcode == "all-gather-start":
      made -= took  # its result is a pair: its operands, and the arrays that it will make
    size = took if kind == "collective-permute" else max(took, made)
    once.setdefault(
      (kind, channel[0] if channel else (each.computation, each.name)),
      Collective(kind, size, arrays, each.depth, each.operation),
    )
  return list(once.values())


def summary(found: Sequence[Collective]) -> dict[str, dict[str, list]]:
  """Sums collectives up: kind → "count" and "mib".

  Each is a list by depth: outside of loops, in a loop, in a loop inside a loop, ...
  """
  deepest = max((each.depth for each in found), default=0)
  table = {}
  for kind in KINDS:
    of_kind = [each for each in found if each.kind == kind]
    levels = [[each.bytes for each in of_kind if each.depth == depth] for depth in range(deepest + 1)]
    if any(levels):
      table[kind] = {"count": list(map(len, levels)), "mib": [round(sum(level) / 2**20, 3) for level in levels]}
  return table


def largest(found: Sequence[Instruction], count: int) -> list[Array]:
  """Returns the largest different arrays that a module's instructions make."""
  different = {array for each in found for array in each.arrays}
  return sorted(different, key=lambda array: (-array.bytes, str(array)))[:count]


def aliased_parameters(text: str) -> set[int]:
  """Returns the numbers of the parameters whose memory a result takes over."""
  header = text.partition("\n")[0]
  start = header.find("input_output_alias={")
  if start < 0:
    return set()
  inside = _balanced(header[start + len("input_output_alias=") :], "{", "}")
  return {int(number) for number in re.findall(r"\((\d+), \{", inside)}


def _depths(called: dict[str, list[tuple[str, int]]], entry: str | None) -> dict[str, int]:
  """Maps a computation to the number of loops around it, at its deepest call."""
  depth: dict[str, int] = {}
  open_ = [(entry, 0)]
  while open_:
    name, level = open_.pop()
    if depth.get(name, -1) < level:
      depth[name] = level
      open_ += [(each, level + loops) for each, loops in called.get(name, ())]
  return depth


def _split_type(rest: str) -> tuple[str, str]:
  """Splits a line after its type, which may be a tuple."""
  if rest.startswith("("):
    kind = _balanced(rest, "(", ")")
    return kind, rest[len(kind) :]
  kind, _, rest = rest.partition(" ")
  return kind, rest


def _split_parenthesis(rest: str) -> tuple[str, str]:
  inside = _balanced("(" + rest, "(", ")")
  return inside[1:-1], rest[len(inside) - 1 :]


def _balanced(text: str, opening: str, closing: str) -> str:
  """Returns the text up to where its first parenthesis closes."""
  level = 0
  for match in re.finditer(f"[{re.escape(opening + closing)}]", text):
    level += 1 if match[0] == opening else -1
    if level == 0:
      return text[: match.end()]
  return text


def _pieces(inside: str) -> Iterator[str]:
  """Splits operands at the commas that are outside of brackets."""
  level, start = 0, 0
  for i, character in enumerate(inside):
    if character in "([{":
      level += 1
    elif character in ")]}":
      level -= 1
    elif character == "," and level == 0:
      yield inside[start:i]
      start = i + 1
  yield inside[start:]


@functools.cache
def _arrays(kind: str) -> tuple[Array, ...]:
  kind = re.sub(r"\{[^{}]*\}|/\*.*?\*/", "", kind)  # layouts and comments
  return tuple(Array(dtype, tuple(map(int, filter(None, sizes.split(","))))) for dtype, sizes in _ARRAY.findall(kind))
