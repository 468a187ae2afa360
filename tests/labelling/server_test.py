"""Tests where the server refuses to start; `experiments/label_test.py` runs it."""

import socket

import pytest

pytest.importorskip("uvicorn", reason="needs pip install 'posttrain_jax[label]'")
pytest.importorskip("markdown_it", reason="needs pip install 'posttrain_jax[label]'")

from posttrain_jax.labelling.event_log import EventLog
from posttrain_jax.labelling.server import serve
from posttrain_jax.labelling.study import EVENTS
from posttrain_jax.types import InputError
from tests.labelling.small_studies import make_study


def start(study, *, host="127.0.0.1", port=0, token=None):
  told = []
  with pytest.raises(InputError) as error:
    serve(study, host=host, port=port, token=token, tell=told.append)
  assert told == []
  return str(error.value)


@pytest.fixture
def study(tmp_path):
  return make_study(tmp_path)


def test_other_machines_need_a_token(study):
  assert "--host=0.0.0.0: other machines could connect, expected a token" in start(study, host="0.0.0.0")
  assert "token: 5 characters, expected at least 16" in start(study, token="short")


def test_a_port_in_use_is_one_line(study):
  with socket.create_server(("127.0.0.1", 0)) as other:
    port = other.getsockname()[1]
    assert start(study, port=port) == f"--host=127.0.0.1 --port={port}: Address already in use, expected a free port"
  assert start(study, host="no-such-host.invalid", token="x" * 16).startswith("--host=no-such-host.invalid: ")


def test_a_study_has_one_server(study):
  with EventLog(study.path / EVENTS):
    assert "events.jsonl: in use by another process, expected one at a time" in start(study)
