import pytest

from posttrain_jax.serving import extra
from posttrain_jax.types import InputError


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
  monkeypatch.setattr(extra, "_PACKAGES", ("json", "no_such_package"))
  with pytest.raises(InputError, match=r"^serving needs no_such_package: pip install 'posttrain_jax\[serve\]'$"):
    extra.check_installed("serving")


def test_installed_packages_pass(monkeypatch):
  monkeypatch.setattr(extra, "_PACKAGES", ("json",))
  extra.check_installed("serving")
