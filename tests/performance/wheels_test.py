import sys
import zipfile

import pytest

from posttrain_jax.performance import wheels


def make_wheel(folder, package, module, text):
  """Writes a wheel with one module, as pip takes it."""
  info = f"{package}-1.0.dist-info"
  folder.mkdir(exist_ok=True)
  with zipfile.ZipFile(folder / f"{package}-1.0-py3-none-any.whl", "w") as archive:
    archive.writestr(f"{module}.py", text)
    archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def own(tmp_path, monkeypatch):
  """Puts a folder for packages on the path, and a module that needs one that is in no folder yet."""
  target = tmp_path / "target"
  monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{target}")
  (tmp_path / "own_module.py").write_text("import first_needed")
  return target


def test_missing_modules_are_installed_one_after_the_other(own, tmp_path):
  """A package's name may differ from its module's."""
  make_wheel(tmp_path / "wheels", "first_package", "first_needed", "import second_needed")
  make_wheel(tmp_path / "wheels", "second_needed", "second_needed", "")
  assert wheels.provide(["json", "own_module"], tmp_path / "wheels", own) == ["first_package", "second_needed"]
  assert wheels.provide(["own_module"], None, own) == []
  assert (own / "second_needed.py").exists()


def test_a_module_in_no_wheel_is_one_line(own, tmp_path, capsys):
  (tmp_path / "wheels").mkdir()
  assert wheels.main(str(tmp_path / "wheels"), str(own), "own_module") == 2
  assert wheels.main("", str(own), "own_module") == 2
  first, second = capsys.readouterr().err.splitlines()
  assert first == f"error: the module 'first_needed' is not installed, and no wheel of {tmp_path}/wheels has it"
  assert second.endswith("'first_needed' is not installed, and there is no folder of wheels (--wheels=DIR)")


def test_a_module_that_fails_otherwise(own, tmp_path, capsys):
  (tmp_path / "own_module.py").write_text("1 / 0")
  assert wheels.main("", str(own), "own_module") == 1
  assert capsys.readouterr().err == "error: import own_module: ZeroDivisionError: division by zero\n"


def test_a_wheel_for_another_machine(own, tmp_path, monkeypatch):
  make_wheel(tmp_path / "wheels", "first_needed", "first_needed", "")
  wheel = tmp_path / "wheels" / "first_needed-1.0-py3-none-any.whl"
  wheel.rename(wheel.with_name("first_needed-1.0-cp27-cp27m-win32.whl"))
  with pytest.raises(RuntimeError, match="pip cannot install first_needed: ERROR: No matching distribution"):
    wheels.provide(["own_module"], tmp_path / "wheels", own)


def test_it_needs_the_standard_library_only():
  imported = {name.partition(".")[0] for name in vars(wheels) if name in sys.modules}
  assert imported <= sys.stdlib_module_names
