import pytest

from posttrain_jax.serving.access import TOKEN_VARIABLE, check_binding, is_loopback, read_token
from posttrain_jax.types import InputError

TOKEN = "0123456789abcdef"


def test_loopback_names_and_addresses():
  assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"]))
  assert not any(map(is_loopback, ["0.0.0.0", "::", "192.168.0.1", "localhost.evil.example", "", "example.org"]))


def test_other_machines_need_a_token():
  check_binding("localhost", None)
  check_binding("0.0.0.0", TOKEN)
  with pytest.raises(InputError, match=r"--host=0\.0\.0\.0: .*--token=FILE or POSTTRAIN_JAX_TOKEN"):
    check_binding("0.0.0.0", None)
  for host in ("localhost", "0.0.0.0"):
    with pytest.raises(InputError, match="15 characters, expected at least 16") as refused:
      check_binding(host, TOKEN[:-1])
    assert TOKEN[:-1] not in str(refused.value)


def test_the_token_is_read_from_a_file_or_the_environment(tmp_path, monkeypatch):
  monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
  assert read_token(None) is None
  monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
  assert read_token(None) == TOKEN
  (tmp_path / "token").write_text("of-the-file-1234\n")
  assert read_token(str(tmp_path / "token")) == "of-the-file-1234"


@pytest.mark.parametrize("text", ["", " \n", "two words", "é" * 20, "a\nb"])
def test_a_token_that_no_header_can_hold_is_refused(text, tmp_path):
  (tmp_path / "token").write_text(text)
  with pytest.raises(InputError, match="expected a token of printable ASCII"):
    read_token(str(tmp_path / "token"))


def test_a_file_that_is_not_there(tmp_path):
  with pytest.raises(InputError, match=r"--token=.*missing: cannot be read: No such file"):
    read_token(str(tmp_path / "missing"))
