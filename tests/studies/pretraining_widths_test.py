import json

import pytest

from configs import pretraining_widths as usual
from posttrain_jax.studies.pretraining_widths import run_config, study
from posttrain_jax.types import InputError
from tests.data.token_files_test import prepared
from tests.pipelines.pretrain_test import TEXTS, config_for


@pytest.fixture
def config(tmp_path):
  config = usual.get_config()
  config.run = config_for(prepared(tmp_path / "prepared", TEXTS))
  config.run.extension.steps = 0
  config.widths = ((32, 1e-2), (16, 2e-2))
  return config


def test_widths_share_tokens_and_differ_in_size(config, tmp_path):
  told = study(config, str(tmp_path / "run"))
  small, large = told["width_16"], told["width_32"]
  assert small["tokens"] == large["tokens"] and small["parameters"] < large["parameters"]
  found = json.loads((tmp_path / "run" / "widths.json").read_text("utf-8"))
  assert [(each["width"], each["losses"][-1]) for each in found] == [(16, small["loss"]), (32, large["loss"])]
  for each in found:
    assert len(each["tokens"]) == len(each["losses"]) == 2 and each["tokens"][0] < each["tokens"][1]
    run = json.loads((tmp_path / "run" / f"width_{each['width']}" / "config.json").read_text("utf-8"))
    assert (run["model"]["embed_dim"], run["model"]["mlp_dim"]) == (each["width"], 2 * each["width"])
  assert (tmp_path / "run" / "widths.png").read_bytes().startswith(b"\x89PNG")
  assert study(config, str(tmp_path / "run")) == told


def test_a_run_of_a_width(config):
  found = run_config(config.run, 64, 1e-4)
  assert (found.model.embed_dim, found.model.mlp_dim, found.model.num_heads, found.model.head_dim) == (64, 128, 4, 16)
  assert found.optimizer.learning_rate == 1e-4 and config.run.model.embed_dim == 16


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda config: config.update(widths=((20, 1e-3),)), r"widths: \(20\.?0?, 0\.001\), expected pairs"),
    (lambda config: config.update(widths=()), "widths: expected at least one"),
    (lambda config: config.run.eval.update(every=0), "eval.every above 0"),
    (lambda config: config.run.model.update(path="x"), r"run\.model\.path: 'x'"),
    (lambda config: config.run.corpus.update(path="none"), "expected the workdir of a finished"),
  ],
)
def test_what_is_refused(config, tmp_path, change, message):
  change(config)
  with pytest.raises(InputError, match=message):
    study(config, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()
