import pytest

from configs import pretrain as usual
from posttrain_jax.assembly.model import open_policy
from posttrain_jax.pipelines import pretrain as pipeline
from posttrain_jax.pipelines.pretrain import pretrain
from posttrain_jax.runs.journal import read_metrics
from posttrain_jax.types import InputError
from tests.data.token_files_test import prepared

TEXTS = [f"the sum of {i} and {j} is {i + j}; that much is known. " * 2 for i in range(12) for j in range(12)]


def config_for(source, **changes):
  config = usual.get_config()
  del config.chips
  config.corpus.update(path=source, row_length=32, held_out=0.2, held_out_rows=8)
  config.model.update(num_layers=1, embed_dim=16, mlp_dim=32, num_heads=1, num_kv_heads=1, head_dim=16, unroll=1)
  config.steps, config.batch_size, config.mesh = 6, 8, dict(data=2, fsdp=4, tensor=1)
  config.optimizer.update(warmup_updates=2, learning_rate=1e-2)
  config.extension.update(steps=3, row_length=64, batch_size=8, warmup_updates=1, rope_theta=5000.0)
  config.eval.every, config.checkpoint.every, config.logging.report = 3, 3, False
  config.update(changes)
  return config


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  return prepared(tmp_path_factory.mktemp("source") / "prepared", TEXTS[:100], TEXTS[100:])


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("pretrain") / "run"
  return workdir, pretrain(config_for(source), str(workdir))


def hashes(workdir):
  return [
    record["params_sha256"]
    for path in (workdir, workdir / "extended")
    for record in read_metrics(path)
    if "params_sha256" in record
  ]


def test_what_is_told_of_both_phases(finished):
  workdir, told = finished
  assert told["pretrained"]["steps"] == 6 and told["extended"]["steps"] == 3
  assert 0 < told["pretrained"]["tokens"] <= 6 * 8 * 32 and 0 < told["extended"]["tokens"] <= 3 * 8 * 64
  assert told["pretrained"]["loss"] < 5.6  # ln 262 = 5.57 for a model that knows nothing
  assert "loss_before" not in told["pretrained"] and told["extended"]["loss_before"] > 0
  assert told["parameters"] == open_policy(str(workdir)).model.num_params
  first = read_metrics(workdir)[0]
  assert first["data/examples"] + 20 < len(TEXTS) and first["data/packing_efficiency"] > 0.9


def test_the_second_phase_begins_with_the_first_ones_parameters_and_turns_more_slowly(finished):
  workdir, _ = finished
  first, second = open_policy(str(workdir)), open_policy(str(workdir / "extended"))
  assert (first.model.rope_theta, second.model.rope_theta) == (1000.0, 5000.0)
  assert first.tokenizer.digest() == second.tokenizer.digest()
  third, sixth, start, end = hashes(workdir)  # of steps 3 and 6, and of 0 and 3 of the second phase
  assert sixth == start and len({third, sixth, end}) == 3


def test_a_run_that_stops_between_the_phases_goes_on_bit_for_bit(source, finished, tmp_path, monkeypatch):
  class Killed(BaseException):
    pass

  def killed(*args):
    raise Killed

  monkeypatch.setattr(pipeline, "_for_longer_rows", killed)
  with pytest.raises(Killed):
    pretrain(config_for(source), str(tmp_path / "run"))
  monkeypatch.undo()
  assert pretrain(config_for(source), str(tmp_path / "run")) == finished[1]
  assert hashes(tmp_path / "run") == hashes(finished[0])


def test_a_longer_first_phase_does_not_fit_a_second_one_that_is_there(source, tmp_path):
  config = config_for(source)
  pretrain(config, str(tmp_path / "run"))
  config.steps, config.optimizer.decay_updates = 8, 6
  with pytest.raises(InputError, match=r"extended/config\.json: digests\.model was"):
    pretrain(config, str(tmp_path / "run"))


def test_shared_tokens_and_no_second_phase(source, finished, tmp_path):
  config = config_for(source)
  config.extension.steps = 0
  told = pretrain(config, str(tmp_path / "run"), tokens=finished[0] / "tokens")
  assert told == {name: value for name, value in finished[1].items() if name != "extended"}
  assert not (tmp_path / "run" / "tokens").exists() and not (tmp_path / "run" / "extended").exists()


def test_bad_input_is_refused_before_a_workdir_is_made(source, tmp_path):
  for path, message in ((str(tmp_path), "expected the workdir of a finished"), (source, "do not divide")):
    config = config_for(path, micro_batches=3)
    config.extension.steps = 0
    with pytest.raises(InputError, match=message):
      pretrain(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
