import json

import pytest

from posttrain_jax.reports import end


def config(**prompts):
  return {"eval": {"sets": {"heldout": {"prompts": {"path": "", "task": "facts"} | prompts}}}}


def test_the_last_lines_are_commands_that_can_be_pasted(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  run = tmp_path / "runs" / "my dapo"
  assert end.end_lines(run, config(), run / "report.html", scores=False) == [
    "done: 'runs/my dapo'",
    "  report:    runs/my dapo/report.html",
    "  evaluate:  python -m experiments.evaluate --model='runs/my dapo' --task=facts",
    "  ask:       python -m experiments.generate --model='runs/my dapo' --prompt=TEXT",
    "  export:    python -m experiments.convert --model='runs/my dapo' --output=DIR",
  ]


@pytest.mark.parametrize(
  "content, flags",
  [
    (config(path="my problems.jsonl"), "--task=jsonl --path='my problems.jsonl'"),
    ({"eval": {"every": 0}}, "--task=jsonl --path=PROBLEMS.jsonl"),
    ({"eval": {"sets": {}}}, "--task=jsonl --path=PROBLEMS.jsonl"),
  ],
)
def test_problems_are_those_of_the_run(tmp_path, content, flags):
  assert end.end_lines(tmp_path, content, None, scores=False)[1].endswith(flags)


def test_a_reward_model_is_scored_and_answers_nothing(tmp_path, capsys):
  (tmp_path / "config.json").write_text(json.dumps(config()))
  end.end_run(tmp_path, report=False, scores=True)
  captured = capsys.readouterr()
  assert captured.out == "" and "experiments.score" in captured.err and "generate" not in captured.err
  assert "report" not in captured.err and not (tmp_path / "report.html").exists()
  end.end_run(tmp_path, report=True)
  assert "report.html" in capsys.readouterr().err and (tmp_path / "report.html").exists()
