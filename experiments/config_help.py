"""Lists the fields of a config for --help, in groups, with the comments that explain them.

The comments stand in the config files, each at the field's first mention. A config is made of others, such as
`config.model = tiny_sft.model()` in configs/tiny_dapo.py. So the files are read as text, and a call of another config's
function stands for the fields that this function makes. Nothing here imports a config or JAX.
"""

import ast
import importlib.util
import io
import pathlib
import textwrap
import tokenize
from collections.abc import Iterator, Mapping
from typing import Any

_WIDTH, _INDENT = 118, 6

Path = tuple[str, ...]


def lines(fields: Mapping[str, Any], file: str) -> Iterator[str]:
  """Yields the lines of the list: the fields of no group first, then group after group.

  Args:
    fields: dotted name → value.
    file: FILE.py[:arg].
  """
  comments = of_file(*file.split(":", 1))
  yield f"config fields, with the values of {file}; a list of values is complete unless it ends in ..."
  group = None
  for name, value in sorted(fields.items(), key=lambda item: "." in item[0]):
    path = tuple(name.split("."))
    if path[:-1] != group:
      group = path[:-1]
      if group:
        about = _find(comments, group)
        yield f"\n{'.'.join(group)}" + (f": {about}" if about else "")
    yield f"  --config.{name}={value!r}"
    comment = _find(comments, path)
    if comment:
      yield from textwrap.wrap(comment, _WIDTH, initial_indent=" " * _INDENT, subsequent_indent=" " * _INDENT)


def _find(comments: Mapping[Path, str], path: Path) -> str | None:
  """Returns a field's comment, or that of the same field without its outer group."""
  suffixes = (path[start:] for start in range(max(len(path) - 1, 1)))
  return next((comments[suffix] for suffix in suffixes if suffix in comments), None)


def of_file(file: str, arg: str = "") -> dict[Path, str]:
  """Returns the comment of each field and group of a file's config.

  Keys are the names that lead to the field.

  A file that cannot be read as Python has none.
  """
  try:
    return _Files(arg).function(pathlib.Path(file).resolve(), "get_config")
  except (OSError, SyntaxError, ValueError, RecursionError):
    return {}


class _Files:
  """Reads config files, each once.

  Attributes:
    arg: what `get_config` is called with; decides where functions are chosen from a dictionary.
  """

  def __init__(self, arg: str):
    self.arg = arg
    self._read: dict[pathlib.Path, tuple[ast.Module, Mapping[int, str]]] = {}
    self._open: list[tuple[pathlib.Path, str]] = []

  def function(self, file: pathlib.Path, name: str) -> dict[Path, str]:
    """Returns the comments of the config that a function makes, if there is one."""
    if (file, name) in self._open:  # it calls itself
      return {}
    if file not in self._read:
      text = file.read_text("utf-8")
      self._read[file] = ast.parse(text), _comments(text)
    tree, comments = self._read[file]
    found: dict[Path, str] = {}
    self._open.append((file, name))
    for node in tree.body:
      if isinstance(node, ast.FunctionDef) and node.name == name:
        scope = _Scope(self, file, tree, comments, found)
        for statement in _statements(node.body):
          scope.take(statement)
    self._open.pop()
    return found


class _Scope:
  """Collects comments from the statements of one function."""

  def __init__(self, files: _Files, file: pathlib.Path, tree: ast.Module, comments: Mapping[int, str], found: dict):
    self._files, self._file, self._comments, self._found = files, file, comments, found
    self._modules = dict(_imported(tree, file))
    self._choices: dict[str, list[ast.expr]] = {}

  def take(self, statement: ast.stmt) -> None:
    """Takes what `config.x = ...`, `config = f()` or `return f()` says."""
    if isinstance(statement, ast.Return) and statement.value is not None:
      self._value((), statement.value)
    elif isinstance(statement, ast.Assign):
      path = _path(statement.targets[0])
      if isinstance(statement.targets[0], ast.Name) and isinstance(statement.value, ast.Dict):
        keys = [getattr(key, "value", None) for key in statement.value.keys]
        values = list(zip(keys, statement.value.values))
        chosen = [value for key, value in values if isinstance(key, str) and self._files.arg.startswith(key)]
        self._choices[statement.targets[0].id] = chosen or statement.value.values
      elif path is not None:
        self._say(path, statement.lineno)
        self._value(path, statement.value)

  def _say(self, path: Path, line: int) -> None:
    if line in self._comments:
      self._found[path] = self._comments[line]

  def _value(self, path: Path, value: ast.expr) -> None:
    """Takes the fields of dict(...), ConfigDict(...), {...} and of another function's config."""
    if isinstance(value, ast.Dict):
      items = [(key.value, item) for key, item in zip(value.keys, value.values) if isinstance(key, ast.Constant)]
    elif isinstance(value, ast.Attribute):  # f().x
      names = []
      while isinstance(value, ast.Attribute):
        names.insert(0, value.attr)
        value = value.value
      if isinstance(value, ast.Call):
        self._call(path, value.func, tuple(names))
      return
    elif not isinstance(value, ast.Call):
      return
    elif isinstance(value.func, ast.Name) and value.func.id in ("dict", "ConfigDict"):
      for argument in value.args:
        self._value(path, argument)
      items = [(keyword.arg, keyword.value) for keyword in value.keywords if keyword.arg]
    else:
      self._call(path, value.func)
      return
    for name, item in items:
      inner = (*path, str(name))
      # A comment on a line of its own value's, such as that of a nested dict, stands where the value begins.
      self._say(inner, item.lineno)
      self._value(inner, item)

  def _call(self, path: Path, called: ast.expr, within: Path = ()) -> None:
    """Takes the fields of the config that a call returns, or of a group within it."""
    if isinstance(called, ast.Subscript) and isinstance(called.value, ast.Name):  # {"a": f, "b": g}[arg]()
      for choice in self._choices.get(called.value.id, ()):
        self._call(path, choice, within)
    if isinstance(called, ast.Name):
      file, name = self._file, called.id
    elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
      file, name = self._modules.get(called.value.id), called.attr
    else:
      return
    for inner, comment in (self._files.function(file, name) if file is not None else {}).items():
      if inner[: len(within)] == within:
        self._found[(*path, *inner[len(within) :])] = comment


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
  """Yields statements in order, those within `if`, `for` and `with` too."""
  for statement in body:
    yield statement
    for part in ("body", "orelse"):
      if isinstance(statement, ast.If | ast.For | ast.With):
        yield from _statements(getattr(statement, part, []))


def _path(target: ast.expr) -> Path | None:
  """Returns ("x", "y") of config.x.y, () of a name, and None of anything else."""
  names: list[str] = []
  while isinstance(target, ast.Attribute):
    names.insert(0, target.attr)
    target = target.value
  return tuple(names) if isinstance(target, ast.Name) else None


def _comments(text: str) -> dict[int, str]:
  """Returns the comment of each line of code: at its end, or right above it."""
  found, above = {}, ""
  for token in tokenize.generate_tokens(io.StringIO(text).readline):
    line = token.line.strip()
    if token.type == tokenize.COMMENT and not line.startswith("#"):
      found[token.start[0]] = token.string.lstrip("# ")
    elif token.type == tokenize.COMMENT:
      above = f"{above} {token.string.lstrip('# ')}".strip()
    elif token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
      if above and not above.startswith("The "):  # "The next four fields ..." is about several
        found.setdefault(token.start[0], above)
      above = ""
  return found


def _imported(tree: ast.Module, file: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
  """Yields the name and file of each module that a config imports."""
  for node in tree.body:
    if isinstance(node, ast.ImportFrom) and node.module:
      for alias in node.names:
        beside = file.parent / f"{alias.name}.py"
        if beside.is_file() and file.parent.name == node.module:
          yield alias.asname or alias.name, beside
          continue
        try:
          spec = importlib.util.find_spec(f"{node.module}.{alias.name}")
        except (ImportError, ValueError):
          continue
        if spec is not None and spec.origin:
          yield alias.asname or alias.name, pathlib.Path(spec.origin)
