"""Tests that imports point down only: one table says what each folder may import."""

import ast
import collections
import graphlib
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# From the bottom up. Each part may import itself and these; data, rewards, sampling and learner know nothing of each
# other, and neither do rollouts and assembly.
MODELS = {"types", "atomic_files", "local_path", "progress", "compiled_once", "losses", "parallel"}
DATA = MODELS | {"models"}
RUNS = DATA | {"data", "rewards", "sampling", "learner"}
EVALUATION = RUNS | {"runs", "rollouts", "assembly"}
PIPELINES = EVALUATION | {"evaluation", "reports"}
ALLOWED = {
  "types": set(),
  "atomic_files": set(),
  "local_path": {"types"},
  "progress": set(),
  "compiled_once": set(),
  "losses": set(),
  "parallel": {"types", "compiled_once"},
  "models": MODELS,
  "data": DATA,
  "rewards": DATA,
  "sampling": DATA,
  "learner": DATA,
  "runs": RUNS,
  "rollouts": RUNS | {"runs"},
  "assembly": RUNS | {"runs"},
  "evaluation": EVALUATION,
  "serving": EVALUATION | {"evaluation"},
  "reports": EVALUATION | {"evaluation"},
  "labelling": {"types", "atomic_files", "local_path", "progress", "data", "runs", "serving", "reports"},
  "pipelines": PIPELINES,
  "studies": PIPELINES | {"pipelines"},
  "performance": PIPELINES | {"pipelines", "serving"},
  "recipes": PIPELINES | {"pipelines", "performance", "serving"},
  "experiments": PIPELINES | {"pipelines", "studies", "performance", "recipes", "serving", "labelling"},
}

# Losses are functions of arrays: besides each other and the standard library they import these modules, and not their
# submodules or siblings.
LOSSES_IMPORT = {"jax", "jax.numpy", "chex"}


def imported_modules(path: pathlib.Path, *, at_import_only: bool = False) -> list[tuple[int, str]]:
  """Returns (line, dotted name) of a file's imports; `from a import b` gives `a.b`.

  Imports inside functions count too, unless `at_import_only`.
  """
  package = path.relative_to(ROOT).with_suffix("").parts[:-1]
  tree = ast.parse(path.read_text("utf-8"), str(path))
  found = []
  for node in tree.body if at_import_only else ast.walk(tree):
    if isinstance(node, ast.Import):
      found += [(node.lineno, alias.name) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      base = package[: len(package) - node.level + 1] if node.level else ()
      module = ".".join([*base, *([node.module] if node.module else [])])
      found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
  return found


def part_of(module: str) -> str | None:
  """Returns the row of the table that a module of ours belongs to; None for other modules."""
  names = module.split(".")
  if names[0] == "experiments":
    return "experiments"
  return names[1] if names[0] == "posttrain_jax" and len(names) > 1 else None


def violations(path: pathlib.Path) -> list[str]:
  own = part_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
  where = path.relative_to(ROOT)
  found = []
  for line, module in imported_modules(path):
    part = part_of(module)
    if part is not None and part != own and part not in ALLOWED[own]:
      found.append(f"{where}:{line}: {own} imports {module}")
    if own == "losses" and part is None and module.split(".")[0] not in sys.stdlib_module_names:
      # `from jax import numpy` and `import jax.numpy` both name a module; `from jax import Array` a member of one.
      if module not in LOSSES_IMPORT and module.rpartition(".")[0] not in LOSSES_IMPORT:
        found.append(f"{where}:{line}: losses import {module}")
  return found


def sources() -> list[pathlib.Path]:
  return sorted(
    path
    for folder in ("posttrain_jax", "experiments")
    for path in (ROOT / folder).rglob("*.py")
    if path != ROOT / "posttrain_jax" / "__init__.py"
  )


def module_graph() -> dict[str, set[str]]:
  """Maps each module of ours to the modules of ours that it imports at import time."""
  paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sources()}
  graph = {}
  for module, path in paths.items():
    names = [name for _, name in imported_modules(path, at_import_only=True)]
    graph[module] = {found for name in names for found in (name, name.rpartition(".")[0]) if found in paths} - {module}
  return graph


def test_arrows_point_down():
  assert [line for path in sources() for line in violations(path)] == []


def test_every_part_has_its_row():
  """A new folder has to be given its place in the table."""
  parts = {part_of(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in sources()}
  assert parts <= set(ALLOWED)


def test_the_table_has_no_cycle_and_keeps_sampling_and_learner_apart():
  order = list(ALLOWED)
  assert all(order.index(below) < order.index(part) for part in ALLOWED for below in ALLOWED[part])
  assert "learner" not in ALLOWED["sampling"] and "sampling" not in ALLOWED["learner"]


def test_no_modules_import_each_other_in_a_circle():
  """Looks within folders, too, which the table does not check."""
  graph = module_graph()
  assert graph["posttrain_jax.pipelines.ppo"]
  list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_every_source_has_a_test_at_its_path():
  """A reader finds the test of posttrain_jax/a/b.py in tests/a/b_test.py."""
  package = ROOT / "posttrain_jax"
  modules = [path.relative_to(package) for path in sources() if package in path.parents and path.stem != "__init__"]
  assert modules
  assert [str(path) for path in modules if not (ROOT / "tests" / path.with_name(f"{path.stem}_test.py")).exists()] == []


def public_classes() -> dict[str, list[str]]:
  """Returns each public class of ours, with the files that define it."""
  found = collections.defaultdict(list)
  for path in sources():
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
      if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
        found[node.name].append(str(path.relative_to(ROOT)))
  return found


def test_no_two_classes_have_one_name():
  """A name says which class it is, in a message and in a search."""
  found = public_classes()
  assert len(found) > 100
  assert {name: files for name, files in found.items() if len(files) > 1} == {}


def test_a_second_class_of_a_name_is_found(tmp_path, monkeypatch):
  monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
  for name in ("one", "two"):
    path = tmp_path / "posttrain_jax" / "data" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("class Curve:\n  class _Own:\n    pass\n")
  assert public_classes() == {"Curve": ["posttrain_jax/data/one.py", "posttrain_jax/data/two.py"]}


@pytest.mark.parametrize(
  ("part", "source"),
  [
    ("sampling", "from posttrain_jax.learner import state"),
    ("sampling", "from posttrain_jax import learner"),
    ("learner", "import posttrain_jax.sampling.engine"),
    ("learner", "def late():\n  from posttrain_jax.sampling.engine import Engine"),
    ("models", "from ..data import tokenizer"),
    ("losses", "from posttrain_jax.types import Rollout"),
    ("losses", "import numpy as np"),
    ("losses", "import optax"),
    ("losses", "from flax import nnx"),
    ("losses", "import jax.experimental.pallas"),
    ("types", "from posttrain_jax import losses"),
    ("evaluation", "from experiments import flags"),
  ],
)
def test_a_forbidden_import_is_found(part, source, tmp_path, monkeypatch):
  monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
  path = tmp_path / "posttrain_jax" / ("types.py" if part == "types" else f"{part}/new.py")
  path.parent.mkdir(parents=True)
  path.write_text(source)
  assert len(violations(path)) == 1


@pytest.mark.parametrize(
  ("part", "source"),
  [
    ("losses", "import functools\nimport chex\nimport jax\nimport jax.numpy as jnp\nfrom jax import numpy\n"),
    ("losses", "from posttrain_jax.losses import masking\nfrom . import kl\nfrom jax import Array"),
    ("learner", "from posttrain_jax import losses\nimport optax\nfrom posttrain_jax.types import Rollout"),
  ],
)
def test_an_allowed_import_passes(part, source, tmp_path, monkeypatch):
  monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
  path = tmp_path / "posttrain_jax" / part / "new.py"
  path.parent.mkdir(parents=True)
  path.write_text(source)
  assert violations(path) == []
