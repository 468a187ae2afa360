"""Reads the text of a compiled program: its collectives, the arrays it makes, its loops, what it updates in place.

Shapes are those on one device. A collective that the compiler overlaps with arithmetic stands in the text up to three
times (start, middle, done) on one channel and is counted once. The text has no trip counts: what is in a loop is
reported by the depth of the loop.
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
  """An array on one device.

  Attributes:
    dtype: as HLO writes it, such as "bf16", or NumPy, such as "bfloat16".
    shape: its sizes.
  """

  dtype: str
  shape: tuple[int, ...]

  @property
  def size(self) -> int:
    """Number of elements."""
    return math.prod(self.shape)

  @property
  def bytes(self) -> int:
    """Bytes, padding left out."""
    bits = _BITS.get(self.dtype)
    if bits is None:
      bits = int(re.search(r"\d+", self.dtype)[0])  # s32, bf16, f8e4m3fn, c64
    return -(-self.size * bits // 8)

  def __str__(self) -> str:
    return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One instruction.

  Attributes:
    name: its name in the text.
    opcode: what it does, such as "all-gather-start".
    arrays: what it makes; several where that is a tuple.
    operands: what it takes.
    computation: name of the computation that it is in.
    depth: how many loops are around it.
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
    """Where in the source it comes from, as JAX names it; empty where nobody says."""
    found = re.search(r'op_name="([^"]*)"', self.attributes)
    return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Collective:
  """Communication between devices.

  Attributes:
    kind: one of `KINDS`.
    bytes: of its operands or its results, whichever are more, on one device.
    arrays: operands and results.
    depth: how many loops are around it.
    operation: where in the source it comes from.
  """

  kind: str
  bytes: int
  arrays: tuple[Array, ...]
  depth: int
  operation: str


def instructions(text: str) -> list[Instruction]:
  """All instructions of a module's text, those inside fusions included, with the loops around them."""
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
  """The collectives among a module's instructions, each once."""
  once = {}
  for each in found:
    kind = each.opcode.removesuffix("-start")
    if kind not in KINDS:
      continue
    if each.computation.startswith("all-reduce-scatter"):  # on TPUs a fusion round an all-reduce
      kind = "reduce-scatter"
    channel = re.search(r"channel_id=\d+", each.attributes)
    arrays = (*each.operands, *each.arrays)
    took, made = (sum(array.bytes for array in part) for part in (each.operands, each.arrays))
    if each.opcode == "all-gather-start":
      made -= took  # its result is the pair of what it took and what it will make
    size = took if kind == "collective-permute" else max(took, made)
    once.setdefault(
      (kind, channel[0] if channel else (each.computation, each.name)),
      Collective(kind, size, arrays, each.depth, each.operation),
    )
  return list(once.values())


def summary(found: Sequence[Collective]) -> dict[str, dict[str, list]]:
  """Kind to "count" and "mib", each a list by depth: outside of loops, in a loop, in a loop in a loop, ..."""
  deepest = max((each.depth for each in found), default=0)
  table = {}
  for kind in KINDS:
    of_kind = [each for each in found if each.kind == kind]
    levels = [[each.bytes for each in of_kind if each.depth == depth] for depth in range(deepest + 1)]
    if any(levels):
      table[kind] = {"count": list(map(len, levels)), "mib": [round(sum(level) / 2**20, 3) for level in levels]}
  return table


def largest(found: Sequence[Instruction], count: int) -> list[Array]:
  """The largest different arrays that a module's instructions make."""
  different = {array for each in found for array in each.arrays}
  return sorted(different, key=lambda array: (-array.bytes, str(array)))[:count]


def aliased_parameters(text: str) -> set[int]:
  """Numbers of the parameters whose memory a result takes over."""
  header = text.partition("\n")[0]
  start = header.find("input_output_alias={")
  if start < 0:
    return set()
  inside = _balanced(header[start + len("input_output_alias=") :], "{", "}")
  return {int(number) for number in re.findall(r"\((\d+), \{", inside)}


def _depths(called: dict[str, list[tuple[str, int]]], entry: str | None) -> dict[str, int]:
  """Computation to the number of loops around it, the most where it is called from several places."""
  depth: dict[str, int] = {}
  open_ = [(entry, 0)]
  while open_:
    name, level = open_.pop()
    if depth.get(name, -1) < level:
      depth[name] = level
      open_ += [(each, level + loops) for each, loops in called.get(name, ())]
  return depth


def _split_type(rest: str) -> tuple[str, str]:
  """A type, which may be a tuple, and what comes behind it."""
  if rest.startswith("("):
    kind = _balanced(rest, "(", ")")
    return kind, rest[len(kind) :]
  kind, _, rest = rest.partition(" ")
  return kind, rest


def _split_parenthesis(rest: str) -> tuple[str, str]:
  inside = _balanced("(" + rest, "(", ")")
  return inside[1:-1], rest[len(inside) - 1 :]


def _balanced(text: str, opening: str, closing: str) -> str:
  """The beginning of a text up to where its first parenthesis closes."""
  level = 0
  for match in re.finditer(f"[{re.escape(opening + closing)}]", text):
    level += 1 if match[0] == opening else -1
    if level == 0:
      return text[: match.end()]
  return text


def _pieces(inside: str) -> Iterator[str]:
  """Operands: what stands between commas that are in no bracket."""
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
