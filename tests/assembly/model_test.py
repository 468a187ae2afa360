from unittest import mock

import jax
import numpy as np
import pytest
from flax import nnx

from configs import assistant_base, tiny_r1_zero, tiny_sft
from posttrain_jax.assembly import model as policies
from posttrain_jax.data import demonstrations
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import Transformer
from posttrain_jax.runs.settings import parse
from posttrain_jax.runs.workdir import Workdir
from posttrain_jax.types import InputError


def test_tags_come_after_the_symbols():
  section = tiny_r1_zero.get_config().model
  with_tags, without = (
    policies.load_policy(parse(policies.ModelSettings, each, "model")) for each in (section, tiny_sft.model())
  )
  text = "+8=5-2=3 Wait, +8=5"
  assert with_tags.tokenizer.encode(text) == without.tokenizer.encode(text)
  assert with_tags.model.vocab_size == without.model.vocab_size + 4
  assert len(with_tags.tokenizer.encode(f"<think>{text}</think><answer>5</answer>")) == 12
  with pytest.raises(InputError, match="no token for '<think>'"):
    without.tokenizer.encode("<think>")


def test_the_words_of_the_assistant_world_are_tokens():
  section = assistant_base.get_config().model
  policy = policies.load_policy(parse(policies.ModelSettings, section, "model"))
  assert len(policy.tokenizer.encode("the colour of bala is red .")) == 7
  assert policy.model.vocab_size == policy.tokenizer.vocab_size


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """Makes a workdir with two checkpoints.

  The parameters of the first are all 1, those of the second all 2. The first is the best.
  """
  path = tmp_path_factory.mktemp("run")
  tokenizer = tiny_tokenizer(demonstrations.SYMBOLS)
  sizes = dict(num_layers=2, embed_dim=8, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=4)
  model = TransformerConfig(vocab_size=tokenizer.vocab_size, **sizes)
  params = nnx.state(Transformer(model, nnx.Rngs(0)))
  policies.save_description(policies.Policy(model, tokenizer), path)
  with Checkpointer(path / "checkpoints") as checkpoints:
    for step in (1, 2):
      state = {"params": jax.tree.map(lambda x, step=step: np.full_like(x, step), params)}
      checkpoints.save(step, state, {}, best=step == 1)
  return path


@pytest.mark.parametrize("which, value", [(None, 2), (policies.Which.LATEST, 2), (policies.Which.BEST, 1)])
def test_which_checkpoint(run, which, value):
  found = policies.open_policy(str(run), which)
  leaves = jax.tree.leaves(found.params)
  assert leaves and all((np.asarray(leaf) == value).all() for leaf in leaves)
  assert found.model.num_layers == 2
  assert found.tokenizer.digest() == tiny_tokenizer(demonstrations.SYMBOLS).digest()


def test_no_best_checkpoint(run, tmp_path):
  policies.save_description(policies.Policy(policies.open_policy(str(run)).model, tiny_tokenizer("ab")), tmp_path)
  with pytest.raises(InputError, match="no checkpoint saved as best"):
    policies.open_policy(str(tmp_path), policies.Which.BEST)
  with pytest.raises(InputError, match="no finished checkpoint"):
    policies.open_policy(str(tmp_path))


def test_a_directory_without_a_tokenizer(tmp_path):
  (tmp_path / "config.json").write_text("{}")
  assert policies.find_tokenizer(str(tmp_path)) is None


def test_a_stray_manifest_does_not_stop_a_model_from_being_read(run):
  expected = policies.digests(str(run), policies.open_policy(str(run)).tokenizer)
  (run / "checkpoints" / "x.manifest.json").write_text("{}")
  assert policies.digests(str(run), policies.open_policy(str(run)).tokenizer) == expected


@pytest.mark.parametrize(
  ("files", "said"),
  [
    (["demonstrations.jsonl", "pairs.jsonl"], "it has demonstrations.jsonl and pairs.jsonl to train on"),
    ([], "it collects data or has not started to train"),
  ],
)
def test_a_run_without_a_model_is_one_line(tmp_path, files, said):
  Workdir.open(tmp_path / "run", {"source": "rejection"}).close()
  for name in files:
    (tmp_path / "run" / name).write_text("")
  with pytest.raises(InputError, match=rf"run: the workdir of a run without a model \({said}\)"):
    policies.open_policy(str(tmp_path / "run"))


def test_home_and_buckets(run, monkeypatch):
  monkeypatch.setenv("HOME", str(run.parent))
  assert policies.open_policy(f"~/{run.name}").model.num_layers == 2
  for load in (policies.open_policy, policies.find_tokenizer, policies.is_run):
    with pytest.raises(InputError, match="gs://bucket/run: only paths of this machine's file system"):
      load("gs://bucket/run")


def test_a_policy_knows_which_ids_have_no_token():
  sizes = dict(num_layers=1, embed_dim=8, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=4)
  tokenizer = tiny_tokenizer("ab")  # ids 0 to 3
  made = lambda size, **more: policies.Policy(TransformerConfig(vocab_size=size, **sizes, **more), tokenizer)  # noqa: E731
  assert made(4).model.absent_ids == ()
  assert made(9).model.absent_ids == ((4, 9),)
  assert made(9, scalar_head=True).model.absent_ids == ()
  assert made(4, absent_ids=((4, 9),)).model.absent_ids == ()
  vocab = tokenizer.backend.get_vocab(with_added_tokens=True)
  del vocab["a"]  # a hole in the middle, as some published tokenisers have
  hole = mock.Mock(get_vocab=lambda with_added_tokens: vocab)
  assert Tokenizer.absent_ids(mock.Mock(backend=hole), 6) == ((2, 3), (4, 6))
