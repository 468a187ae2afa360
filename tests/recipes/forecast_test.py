import json

import pytest

from configs import tiny_sft
from posttrain_jax.recipes.forecast import Expected, Forecast, named_sizes
from posttrain_jax.types import InputError
from tests.recipes.saved_model import save_model


def test_rows_are_counted_where_a_file_exists(tmp_path):
  known, file = Forecast(0.5), tmp_path / "rows.jsonl"
  known.expect_rows(file, 7)
  assert known.count(str(file)) == 7 and known.read(str(file)) is None
  file.write_text("".join(json.dumps({"prompt": i}) + "\n" for i in range(3)))
  assert known.count(str(file)) == 3
  other = tmp_path / "other.jsonl"
  assert known.read(f"{file},{other}") is None  # one of the two is not there yet
  other.write_text(json.dumps({"prompt": 9}) + "\n")
  assert known.count(f"{file},{other}") == 4
  assert Forecast(0.5).count("unknown") > 0
  file.write_text("")  # as the pairs of a collection that found none
  assert known.count(str(file)) == 0


def test_what_an_unfinished_stage_wrote_before_does_not_count(tmp_path):
  known, files = Forecast(0.5, [tmp_path / "again"]), [tmp_path / name / "rows.jsonl" for name in ("again", "done")]
  for file in files:
    file.parent.mkdir()
    file.write_text(json.dumps({"prompt": 1}) + "\n")
    known.expect_rows(file, 7)
  assert [known.count(str(file)) for file in files] == [7, 1]
  assert known.read(str(files[0])) is None and len(known.read(str(files[1]))) == 1


def test_a_reward_model_is_no_policy(tmp_path):
  save_model(tmp_path / "scorer", 0, scalar_head=True)
  section = tiny_sft.model()
  section.path = str(tmp_path / "scorer")
  assert Forecast(0.5).model(section).model.scalar_head
  with pytest.raises(InputError, match=r"model.path: .*scorer is a reward model, expected a language model"):
    Forecast(0.5).policy(section)
  section.path = ""
  assert Forecast(0.5).policy(section).model.num_layers == 2


def test_models_that_exist_or_will(tmp_path):
  known, section = Forecast(0.5), tiny_sft.model()
  random = known.model(section)
  assert random.model.num_layers == 2 and random.tokenizer is not None
  section.path = str(tmp_path / "later")
  with pytest.raises(InputError, match="later"):
    known.model(section)
  known.expect_model(tmp_path / "later", Expected(random.model, None))
  assert known.model(section) == (random.model, None)
  save_model(tmp_path / "there", 0)
  section.path = str(tmp_path / "there")
  assert known.model(section).model.embed_dim == 16 and known.model(section).tokenizer is not None
  section.path = "Qwen2.5-7B"
  assert known.model(section).model.num_layers == 28


def test_names_of_public_models(tmp_path, monkeypatch):
  assert named_sizes("Qwen2.5-32B").num_layers == 64 and named_sizes("runs/qwen") is None
  monkeypatch.chdir(tmp_path)
  (tmp_path / "Qwen2.5-7B").mkdir()
  assert named_sizes("Qwen2.5-7B") is None  # a folder of that name is a model of its own


def test_lengths():
  assert Forecast(0.5).length(24) == 12 and Forecast(0.1).length(2) == 1
