import dataclasses

from configs import tiny_forgetting
from posttrain_jax.runs.settings import parse
from posttrain_jax.studies.forgetting_settings import ForgettingSettings


def settings():
  return parse(ForgettingSettings, tiny_forgetting.get_config())


def test_a_run_lasts_for_the_most_epochs_at_its_own_rate():
  run = settings().run(0.5)
  assert (run.epochs, run.steps, run.eval.every, run.max_skipped_updates) == (8, 0, -1, 1)
  assert run.optimizer == dataclasses.replace(settings().optimizer, learning_rate=0.5)
  assert run.eval.sets == settings().eval.sets and run.demonstrations == settings().demonstrations


def test_files_take_the_place_of_procedural_problems():
  found = settings().reading("a.jsonl", "b.jsonl")
  assert found.demonstrations.path == "a.jsonl" and found.eval.sets["heldout"].prompts.path == "b.jsonl"
  assert settings().demonstrations.path == ""
