"""Installs the packages that modules lack, from a folder of wheels and without a network.

    python -m posttrain_jax.performance.wheels WHEELS TARGET MODULE...

WHEELS is a folder of wheels, or empty. What is missing is installed into the folder TARGET, which has to be on the
PYTHONPATH; what is installed already stays as it is. Exit codes: 0 the modules can be imported, 2 a package is missing,
1 anything else. This file needs the standard library only.
"""

import pathlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence


def missing_module(modules: Sequence[str]) -> str | None:
  """Returns a module that cannot be found when others are imported; None if the import works.

  Raises:
    RuntimeError: if the import fails for another reason; the message is its last line.
  """
  done = subprocess.run([sys.executable, "-c", f"import {', '.join(modules)}"], capture_output=True, text=True)
  if done.returncode == 0:
    return None
  last = (done.stderr.strip().splitlines() or ["no message"])[-1]
  found = re.fullmatch(r"ModuleNotFoundError: No module named '([\w.]+)'(; .*)?", last)
  if found is None:
    raise RuntimeError(f"import {', '.join(modules)}: {last}")
  return found[1]


def package_with(folder: pathlib.Path, module: str) -> str | None:
  """Returns the name of a package, among a folder's wheels, that has a module."""
  path = module.replace(".", "/")
  for wheel in sorted(folder.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
      if any(name.startswith((f"{path}/", f"{path}.")) for name in archive.namelist()):
        return wheel.name.partition("-")[0]
  return None


def provide(modules: Sequence[str], folder: pathlib.Path | None, target: pathlib.Path) -> list[str]:
  """Installs what modules lack, one package after the other, until they can be imported.

  Args:
    modules: dotted names.
    folder: has wheels; None if there is no such folder.
    target: folder for packages, on the PYTHONPATH.

  Returns:
    The names of the packages that were installed.

  Raises:
    FileNotFoundError: if a module is missing and no wheel has it.
    RuntimeError: if the import fails for another reason, or pip cannot install a wheel.
  """
  installed: list[str] = []
  while (missing := missing_module(modules)) is not None:
    package = package_with(folder, missing) if folder else None
    if package is None or package in installed:
      where = f"no wheel of {folder} has it" if folder else "there is no folder of wheels (--wheels=DIR)"
      raise FileNotFoundError(f"the module {missing!r} is not installed, and {where}")
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    options += [f"--find-links={folder}", f"--target={target}"]
    done = subprocess.run([sys.executable, "-m", "pip", "install", *options, package], capture_output=True, text=True)
    if done.returncode:
      raise RuntimeError(f"pip cannot install {package}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    installed.append(package)
  return installed


def main(folder: str, target: str, *modules: str) -> int:
  """Runs the command and returns its exit code."""
  try:
    installed = provide(modules, pathlib.Path(folder) if folder else None, pathlib.Path(target))
  except FileNotFoundError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  except RuntimeError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  if installed:
    print(f"installed into {target}: {', '.join(installed)}", file=sys.stderr)
  return 0


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
