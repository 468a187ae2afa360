"""Tests which files under rollouts/ are a run's, and what becomes of the others."""

from posttrain_jax.runs import rollout_files
from posttrain_jax.runs.rollout_files import GROUPS_SUFFIX, SAMPLES_SUFFIX

OURS = ["step_000001.jsonl", "step_000002.jsonl", "step_000001.groups.safetensors.gz", "step_1000000.jsonl"]
STRAYS = ["step_abc.jsonl", "step_000001.jsonl.bak", "step_\u00b2.jsonl", "notes.txt", "step_.jsonl"]


def filled(tmp_path):
  for name in [*OURS, *STRAYS, "step_000009.jsonl.tmp"]:
    (tmp_path / name).write_text("")
  (tmp_path / "step_000003.jsonl").mkdir()
  return tmp_path


def test_files_of_a_run_are_found_in_the_order_of_steps(tmp_path):
  assert [step for step, _ in rollout_files.find(filled(tmp_path), SAMPLES_SUFFIX)] == [1, 2, 1_000_000]
  assert rollout_files.find(tmp_path, GROUPS_SUFFIX) == [(1, tmp_path / rollout_files.file_name(1, GROUPS_SUFFIX))]
  assert rollout_files.find(tmp_path / "none", SAMPLES_SUFFIX) == []


def test_only_files_of_a_run_are_deleted(tmp_path):
  strays = rollout_files.cut_back(filled(tmp_path), 1)
  assert sorted(strays) == sorted([*STRAYS, "step_000003.jsonl"])
  kept = {path.name for path in tmp_path.iterdir()}
  assert kept == {*STRAYS, "step_000003.jsonl.aside", "step_000001.jsonl", "step_000001.groups.safetensors.gz"}
  (tmp_path / "step_000003.jsonl").mkdir()  # and once more
  rollout_files.cut_back(tmp_path, 1)
  assert (tmp_path / "step_000003.jsonl.aside-2").is_dir()
