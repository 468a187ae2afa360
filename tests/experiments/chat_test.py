"""Tests the program over a pipe and in tmux, with a server whose answers are given."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

from posttrain_jax.data.encoding import encode_demonstrations
from posttrain_jax.data.prompts import read_jsonl
from posttrain_jax.data.vocabularies import byte_tokenizer
from tests.recipes.saved_model import save_model
from tests.serving.fake_server import fake_server

ROOT = pathlib.Path(__file__).resolve().parents[2]
needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


def chat(*flags, given=""):
  command = [sys.executable, "-m", "experiments.chat", *flags]
  return subprocess.run(command, input=given, capture_output=True, text=True, check=False)


def echo(request):
  yield "you said: "
  yield request["messages"][-1]["content"]


def test_lines_of_a_pipe_are_answered(tmp_path):
  with fake_server(echo) as (url, requests):
    done = chat(f"--server={url}", given=f"/temperature 0.5\nhi\nan \x1b escape\n/save {tmp_path}/a.jsonl\n")
  assert (done.returncode, done.stdout) == (0, "you said: hi\nyou said: an \x1b escape\n")
  assert requests[1]["temperature"] == 0.5
  (row,) = read_jsonl(tmp_path / "a.jsonl")
  assert encode_demonstrations([row], byte_tokenizer(), chat=False)


def test_bad_input_ends_with_one_line():
  for flags, given, message in (
    ((), "", "--model: missing, expected a model; or --server"),
    (("--server=http://127.0.0.1:9",), "", "--server=http://127.0.0.1:9: "),
    (("--model=m", "--top_p=0"), "", "flag --top_p=0.0: expected a number in (0, 1]"),
  ):
    done = chat(*flags, given=given)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith(f"error: {message}")


class Tmux:
  """Runs a command in a terminal of 100 columns, on a socket of its own."""

  def __init__(self, folder, command):
    self._tmux = ["tmux", "-S", str(folder / "socket"), "-f", "/dev/null"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    start = [*self._tmux, "-u", "new-session", "-d", "-s", "chat", "-x", "100", "-y", "30", command]
    subprocess.run(start, check=True, env=environment, cwd=ROOT)

  def type(self, text, enter=True):
    subprocess.run([*self._tmux, "send-keys", "-t", "chat", "-l", text], check=True)
    if enter:
      self.press("Enter")

  def press(self, key):
    subprocess.run([*self._tmux, "send-keys", "-t", "chat", key], check=True)

  def screen(self):
    return subprocess.run([*self._tmux, "capture-pane", "-p", "-t", "chat"], capture_output=True, text=True).stdout

  def wait_for(self, text, seconds=60):
    end = time.monotonic() + seconds
    while text not in (screen := self.screen()):
      assert time.monotonic() < end, f"{text!r} is not on the screen:\n{screen}"
      time.sleep(0.1)
    return screen

  def close(self):
    subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)


@needs_tmux
def test_a_person_talks_in_tmux(tmp_path):
  def answers(request):
    asked = request["messages"][-1]["content"]
    if asked == "slow":
      yield "it begins"
      for _ in range(600):
        time.sleep(0.1)
        yield "."
    elif asked == "hostile":
      yield "\x1b[2J\x1b[1;1H<think>hm</think>\u202eabc\x07"
    else:
      yield f"answer {len(request['messages'])}: {asked}"

  with fake_server(answers) as (url, requests):
    terminal = Tmux(tmp_path, f"{sys.executable} -m experiments.chat --server={url}; echo ended with $?; sleep 60")
    try:
      terminal.wait_for("/help lists the commands")
      terminal.type("hello")
      terminal.wait_for("answer 1: hello")
      terminal.type("/temperature .7")
      terminal.wait_for("temperature is 0.7")
      terminal.type("slow")
      terminal.wait_for("it begins...")
      terminal.press("C-c")
      terminal.wait_for("(stopped)")
      terminal.press("C-c")
      terminal.wait_for("(Ctrl-D ends)")
      terminal.type("hostile")
      screen = terminal.wait_for("�abc␇")
      assert "␛[2J␛[1;1H<think>hm</think>" in screen and "answer 1: hello" in screen
      terminal.type("/undo")
      terminal.wait_for("2 are left")
      terminal.type("mistake", enter=False)
      for _ in range(len("mistake")):
        terminal.press("BSpace")
      terminal.type("last")
      terminal.wait_for("answer 5: last")
      terminal.type("/retry")
      terminal.wait_for("answer 5: last\n> /retry\nanswer 5: last")
      terminal.type(f"/save {tmp_path}/saved.jsonl")
      terminal.wait_for("saved 1 row to")
      terminal.press("C-d")
      terminal.wait_for("ended with 0")
    finally:
      terminal.close()
  assert requests[-1]["temperature"] == 0.7
  (line,) = (tmp_path / "saved.jsonl").read_text().splitlines()
  assert [message["content"] for message in json.loads(line)["messages"]][-1] == "answer 5: last"


@needs_tmux
def test_a_model_in_this_process_is_stopped_and_goes_on(tmp_path):
  """Its answers are random bytes that never end; the terminal obeys none of them."""
  endless = dataclasses.replace(byte_tokenizer(), eos_id=None, stop_ids=(), chat_template=None)
  save_model(tmp_path / "tiny", 0, tokenizer=endless)
  flags = f"--model={tmp_path / 'tiny'} --max_tokens=20000 --max_prompt_length=30000 --seed=1"
  terminal = Tmux(tmp_path, f"{sys.executable} -m experiments.chat {flags}; echo ended with $?; sleep 60")
  try:
    terminal.wait_for("tiny; /help lists the commands")
    terminal.type("hi")
    terminal.wait_for("␘")
    terminal.press("C-c")
    terminal.wait_for("(stopped)")
    terminal.type("/max_tokens 5")
    terminal.wait_for("max_tokens is 5")
    terminal.type("/undo")
    terminal.wait_for("0 are left")
    terminal.type("again")
    terminal.type("/temperature 0")
    terminal.wait_for("temperature is 0.0")
    terminal.press("C-d")
    terminal.wait_for("ended with 0")
  finally:
    terminal.close()
