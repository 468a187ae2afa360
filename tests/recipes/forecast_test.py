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
  assert Forecast(0.5).count("unknown") > 0


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
