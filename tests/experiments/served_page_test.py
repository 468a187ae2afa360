"""Tests the server with its chat page as a user starts it, until it is killed."""

import json
import signal
import subprocess
import sys
import urllib.request

import pytest

pytest.importorskip("uvicorn", reason="needs pip install 'posttrain_jax[serve]'")

from tests.serving.served import save_byte_model

SMALL = ("--slots=2", "--max_prompt_length=60", "--max_new_tokens=20", "--steps_per_dispatch=2", "--port=0")


def serve(*flags):
  command = [sys.executable, "-m", "experiments.serve", *flags, *SMALL]
  return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(model, number):
  answer = {"text": f"answer {number}", "model": model, "version": "1", "sampling": {"temperature": 1.0}}
  prompt = [{"role": "user", "content": "hi"}]
  more = {"id": f"id-{number:05}", "client": "client-01", "prompt": prompt}
  return json.dumps({"kind": "thumb", "answer": answer, "up": True, **more}).encode()


def test_feedback_survives_sigkill_and_the_terminal_talks_with_the_server(tmp_path):
  folder, feedback = save_byte_model(tmp_path / "tiny"), tmp_path / "feedback"
  with serve(f"--model={folder}", f"--feedback={feedback}") as process:
    try:
      line = process.stdout.readline()
      assert line.startswith("tiny: http://127.0.0.1:"), process.stderr.read()
      url = line.split()[-1].removesuffix("/v1")
      with urllib.request.urlopen(url) as page:
        assert b"<title>Chat</title>" in page.read() and "sha256-" in page.headers["Content-Security-Policy"]
      for number in range(5):
        urllib.request.urlopen(f"{url}/feedback", said("tiny", number)).close()
      second = serve(f"--model={folder}", f"--feedback={feedback}")
      assert second.communicate()[1].startswith("error: ") and second.returncode == 2
      talk = [sys.executable, "-m", "experiments.chat", f"--server={url}", "--seed=3"]
      answer = subprocess.run(talk, input=b"hi\n", capture_output=True, check=False)
      assert (answer.returncode, len(answer.stdout) > 1) == (0, True), answer.stderr
      process.send_signal(signal.SIGKILL)
      process.wait()
    finally:
      process.kill()
  rows = [json.loads(line) for line in (feedback / "liked.jsonl").read_text().splitlines()]
  assert [row["completion"] for row in rows] == [f"answer {number}" for number in range(5)]
