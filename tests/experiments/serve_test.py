"""Tests the binary as a user starts it: flags, one line when it is ready, SIGTERM."""

import signal
import subprocess
import sys

import pytest

pytest.importorskip("uvicorn", reason="needs pip install 'posttrain_jax[serve]'")
pytest.importorskip("openai", reason="needs pip install 'posttrain_jax[test]'")

import openai

from tests.serving.served import save_byte_model

SMALL = ("--slots=2", "--max_prompt_length=40", "--max_new_tokens=40", "--steps_per_dispatch=2", "--port=0")


def command(*flags):
  return [sys.executable, "-m", "experiments.serve", *flags]


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (("--model=m", "--host=0.0.0.0"), "error: --host=0.0.0.0: other machines could connect, expected a token as well"),
    (("--model=no/such", "--port=0"), "error: model: 'no/such' does not exist"),
  ],
  ids=str,
)
def test_bad_flags_end_with_one_line(flags, message):
  done = subprocess.run(command(*flags), capture_output=True, text=True, check=False)
  assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
  assert done.stderr.startswith(message), done.stderr


def test_it_answers_and_ends_at_sigterm_with_the_running_answer_whole(tmp_path):
  folder = save_byte_model(tmp_path / "tiny")
  (tmp_path / "token").write_text("a-token-of-twenty-ch\n")
  flags = (f"--model={folder}", f"--model=second={folder}", f"--token={tmp_path / 'token'}", *SMALL)
  with subprocess.Popen(command(*flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
    try:
      line = process.stdout.readline()
      assert line.startswith("tiny, second: http://127.0.0.1:"), process.stderr.read()
      stranger = openai.OpenAI(base_url=line.split()[-1], api_key="wrong-token-0000", max_retries=0)
      with stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()
      with openai.OpenAI(base_url=line.split()[-1], api_key="a-token-of-twenty-ch", max_retries=0) as client:
        assert [model.id for model in client.models.list().data] == ["tiny", "second"]
        stream = client.completions.create(model="second", prompt="ab", stream=True, n=8)
        next(iter(stream))
        process.send_signal(signal.SIGTERM)
        assert sum(chunk.choices[0].finish_reason is not None for chunk in stream) == 8
      out, err = process.communicate(timeout=30)
      assert (process.returncode, out, err) == (0, "", "")
    finally:
      process.kill()
