import json

import jax
import pytest

from configs import tiny_collect, tiny_distillation, tiny_edited, tiny_sft
from posttrain_jax.assembly.demonstrations import load_demonstrations
from posttrain_jax.data.demonstrations import SYMBOLS
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.pipelines.collect import collect
from posttrain_jax.types import InputError
from tests.pipelines.coin_reward import coin
from tests.pipelines.small_run import OVERRIDES

SMALL = {name: value for name, value in OVERRIDES.items() if name.startswith(("model.", "rewards."))} | {
  "mesh.data": 8,
  "warmup.steps": 4,
  "warmup.logging.tensorboard": False,
  "warmup.demonstrations.per_difficulty": 20,
  "prompts.per_difficulty": 2,
  "rollout.samples": 8,
  "rollout.prompts": 5,
  "rollout.slots": 16,
  "rollout.max_new_tokens": 6,
}


_compiles = []


jax.monitoring.register_event_duration_secs_listener(
  lambda event, duration, **_: _compiles.append(event) if event.endswith("backend_compile_duration") else None
)


def small(module, **changes):
  config = module.get_config()
  settings = SMALL if module is not tiny_edited else {"edited.per_difficulty": 40}
  config.update_from_flattened_dict(settings | {name.replace("__", "."): value for name, value in changes.items()})
  return config.lock()


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def demonstrations(path):
  """Reads a file as `experiments.sft` does."""
  section = tiny_sft.training().demonstrations
  section.path = str(path)
  return load_demonstrations(section, tiny_tokenizer(SYMBOLS), batch_size=2, weighting="token", seed=0)


def test_rejection_sampling_gives_what_sft_trains_on(tmp_path):
  config = small(tiny_collect)
  counts = collect(config, tmp_path)
  rows = lines(tmp_path / "demonstrations.jsonl")
  assert len(rows) == counts["demonstrations"] == counts["kept"] > 0
  assert (counts["prompts"], counts["candidates"]) == (12, 96)
  fates = ("kept", "invalid", "duplicates", "below_threshold", "surplus")
  assert sum(counts[fate] for fate in fates) == counts["candidates"]
  for row in rows:
    assert row["score"] == 1 == coin([row["completion"]], [row])[0]
  for row in lines(tmp_path / "pairs.jsonl"):
    assert coin([row["chosen"], row["rejected"]], [row, row]) == [1, 0]
  assert demonstrations(tmp_path / "demonstrations.jsonl").batches.num_examples == len(rows)

  before = (tmp_path / "demonstrations.jsonl").read_bytes()
  _compiles.clear()
  assert collect(config, tmp_path) == counts
  assert not _compiles
  with pytest.raises(InputError, match=r"selection\.keep was 1 when the run started, found 2 now"):
    collect(small(tiny_collect, selection__keep=2), tmp_path)
  (tmp_path / "counts.json").unlink()  # as if killed before the end: the answers are not drawn again
  assert collect(config, tmp_path) == counts
  assert (tmp_path / "demonstrations.jsonl").read_bytes() == before


def test_distillation_gives_both_samples_of_a_problem(tmp_path, capsys):
  path = tmp_path / "problems.jsonl"
  path.write_text(
    "".join(json.dumps({"prompt": f"{i}+1=", "answer": f"={i + 1}", "final": i}) + "\n" for i in range(8))
  )
  # A model that knows nothing seldom says something that ends: many answers, and long ones.
  config = small(
    tiny_distillation, prompts__path=str(path), rollout__samples=32, rollout__max_new_tokens=24, rollout__slots=128
  )
  counts = collect(config, tmp_path / "run")
  rows = lines(tmp_path / "run" / "demonstrations.jsonl")
  assert counts["plain"] == 8 and counts["reflective"] + counts["rejected"] == 8
  assert counts["demonstrations"] == len(rows) == 8 + counts["reflective"] > 8
  plain = [row["completion"] for row in rows if row["completion"].startswith(" Answer: =")]
  assert plain == [f" Answer: ={i + 1}" for i in range(8)]  # the worked solution, not the reference
  assert not (tmp_path / "run" / "pairs.jsonl").exists()
  assert demonstrations(tmp_path / "run" / "demonstrations.jsonl").batches.num_examples == len(rows)
  assert "answers end at 1 '<eos>'" in capsys.readouterr().err


def test_edited_answers_need_no_model(tmp_path):
  path = tmp_path / "edited.jsonl"
  row = {"prompt": "1+1=", "edited": "=2", "chosen": "=3", "rejected": "=4", "strength": "better"}
  path.write_text(json.dumps(row))
  _compiles.clear()
  assert collect(small(tiny_edited, edited__path=str(path)), tmp_path / "run") == {
    "rows": 1, "left_out": 0, "demonstrations": 1, "pairs": 3
  }  # fmt: skip
  assert not _compiles
  assert lines(tmp_path / "run" / "demonstrations.jsonl") == [{"prompt": "1+1=", "completion": "=2"}]
  pairs = [(pair["chosen"], pair["rejected"]) for pair in lines(tmp_path / "run" / "pairs.jsonl")]
  assert pairs == [("=2", "=3"), ("=2", "=4"), ("=3", "=4")]

  counts = collect(small(tiny_edited), tmp_path / "procedural")
  assert counts["pairs"] == 3 * counts["rows"] > 0


@pytest.mark.parametrize(
  "module, changes, message",
  [
    (tiny_collect, {"source": "guessing"}, "source: 'guessing', expected one of rejection_sampling"),
    (tiny_collect, {"warmup__steps": 0}, "model.path: empty"),
    (tiny_collect, {"selection__keep": 0}, "keep 0"),
    (tiny_collect, {"rollout__samples": 0}, "rollout.samples: 0"),
    (tiny_collect, {"reward_model": "nowhere"}, "nowhere"),
    (tiny_distillation, {"selection__keep": 2}, "selection.keep: 2, expected 1"),
    (tiny_distillation, {"prompts__system": "x"}, "prompts.system: 'x', expected none"),
    (tiny_distillation, {"distillation__original": "solution"}, "arithmetic, row 0: solution is None"),
    (tiny_distillation, {"distillation__original_template": "x"}, "has no '{original}'"),
    (tiny_edited, {"edited__path": "absent.jsonl"}, "absent.jsonl: no such file"),
  ],
)
def test_bad_input_is_refused_before_anything_is_compiled(tmp_path, module, changes, message):
  _compiles.clear()
  with pytest.raises(InputError) as error:
    collect(small(module, **changes), tmp_path / "run")
  assert message in str(error.value) and "\n" not in str(error.value)
  assert not _compiles and not (tmp_path / "run").exists()


def test_nothing_left_is_an_error_and_writes_nothing(tmp_path):
  with pytest.raises(InputError, match="no demonstration is left"):
    collect(small(tiny_collect, selection__threshold=2.0), tmp_path)
  assert not (tmp_path / "demonstrations.jsonl").exists()
