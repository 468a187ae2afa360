"""Tests preparation and pretraining as stages: their inputs, estimates, and that one takes what the other made."""

import json

import pytest

from configs.recipes import whole_life
from posttrain_jax.recipes import corpus_stages, runners
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.types import InputError
from tests.recipes.made_recipe import run

HOMES = ("forest", "river", "hill", "cave", "desert", "swamp", "coast", "meadow", "lake", "island")
TEXTS = [f"the food of bala is nuts . the home of bala is the {home} ." for home in HOMES]


@pytest.fixture
def stages(tmp_path):
  """Returns a preparation of a few texts, two of them equal, and pretraining on what is left."""
  (tmp_path / "raw.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in [*TEXTS, TEXTS[0]]))
  (tmp_path / "exam.jsonl").write_text(json.dumps({"question": TEXTS[3]}) + "\n")
  config = whole_life.get_config()
  config.prepare.near.threshold = 0.0
  config.prepare.contamination.shortest = 4
  config.pretrain.update(steps=2, batch_size=8)
  config.pretrain.corpus.update(row_length=16, held_out=0.5)
  config.pretrain.model.update(num_layers=1, embed_dim=16, mlp_dim=16, num_heads=1, num_kv_heads=1, head_dim=16)
  config.pretrain.optimizer.warmup_updates, config.pretrain.mesh.data = 1, 8
  config.pretrain.eval.every = config.pretrain.checkpoint.every = 1
  own = seeded(corpus_stages.preparation(config.prepare), 0)
  files = {"path": str(tmp_path / "raw.jsonl"), "exam": str(tmp_path / "exam.jsonl")}
  prepared = Stage("prepared", run=runners.PREPARE, config=own, inputs=files)
  inputs = {"corpus.path": prepared.file(corpus_stages.SHARDS)}
  return prepared, Stage("base", run=runners.PRETRAIN, config=seeded(config.pretrain, 0), inputs=inputs)


def test_a_model_is_pretrained_on_what_is_left(stages, tmp_path):
  result = run(stages, tmp_path / "recipe")
  prepared, base = (each["metrics"] for each in result["stages"])
  assert prepared["documents"] == prepared["examples"] == 11 and prepared["kept"] == 9
  assert prepared["dropped_exact"] == prepared["dropped_contamination"] == 1
  assert base["eval/validation/loss"] > 0
  assert (tmp_path / "recipe" / "base" / "model.json").exists()
  assert run(stages, tmp_path / "recipe") == result  # nothing runs again


def test_work_is_estimated_before_the_text_is_prepared(stages):
  _, base = stages
  config = base.config.copy_and_resolve_references()
  effort = corpus_stages.forecast_pretraining(config, Forecast(0.5))
  assert effort.trained == 2 * 8 * 16 and effort.training_flops > 0
  assert base.inputs["corpus.path"] == Output("prepared", "shards.json")


def test_steps_must_be_known(stages):
  config = stages[1].config.copy_and_resolve_references().unlock()
  config.corpus.path, config.steps, config.epochs = "shards.json", 0, 1
  with pytest.raises(InputError, match=r"steps: 0, expected the updates"):
    corpus_stages.check_pretraining(config)
