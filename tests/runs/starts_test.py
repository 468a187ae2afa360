import datetime
import subprocess
import sys

import jax

from posttrain_jax.runs import starts


def test_each_start_is_a_line(tmp_path):
  assert starts.read_starts(tmp_path) == []
  starts.record_start(tmp_path)
  with open(tmp_path / "starts.jsonl", "a") as file:
    file.write("[1]\n{cut\n")
  starts.record_start(tmp_path)
  first, second = starts.read_starts(tmp_path)
  assert first["versions"]["jax"] == jax.__version__ and "CPU" in first["devices"]
  assert second["versions"]["python"].split(".")[0] == "3" and first["command"] == starts.command()
  age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(first["date"])
  assert datetime.timedelta(0) <= age < datetime.timedelta(minutes=10)


def test_the_command_is_as_it_was_typed(monkeypatch):
  monkeypatch.setattr(sys, "orig_argv", ["/x/.venv/bin/python", "-m", "experiments.sft", "--config.a=two words"])
  assert starts.command() == "python -m experiments.sft '--config.a=two words'"


def test_the_commit_says_whether_files_differ(tmp_path, monkeypatch):
  def git(*arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], capture_output=True, check=True)
    return done.stdout.decode().strip()

  source = tmp_path / "package" / "starts.py"
  source.parent.mkdir()
  source.write_text("1")
  monkeypatch.setattr(starts, "__file__", str(source))
  assert starts.commit() == ""
  git("init", "-q")
  assert starts.commit() == ""  # installed into a checkout of something else
  git("add", ".")
  git("commit", "-qm", "one")
  head = git("rev-parse", "HEAD")
  (tmp_path / "untracked").write_text("x")
  assert starts.commit() == head
  source.write_text("2")
  assert starts.commit() == head + "+"
