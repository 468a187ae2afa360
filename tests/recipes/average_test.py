import jax
import numpy as np
import pytest

from posttrain_jax.assembly.model import Which, load_model
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.recipes import average
from posttrain_jax.types import InputError
from tests.random_params import names
from tests.recipes.saved_model import save_model


def config(tmp_path, **models):
  found = average.models(*models)
  for name, fields in models.items():
    found.models[name].update(dict(path=str(tmp_path / name), **fields))
  return found


def test_an_average_by_weights_can_be_loaded(tmp_path):
  (a,), (b,) = save_model(tmp_path / "a", 0), save_model(tmp_path / "b", 1)
  made = average.average(config(tmp_path, a=dict(weight=3.0), b=dict(weight=1.0)), tmp_path / "made")
  model, params = load_model(str(tmp_path / "made"))
  assert model == load_model(str(tmp_path / "a"))[0]
  for name, leaf in names(params).items():
    one, other = (np.asarray(names(each)[name], np.float64) for each in (a, b))
    np.testing.assert_allclose(leaf, 0.75 * one + 0.25 * other, rtol=1e-6)
    assert leaf.dtype == np.float32
  assert made == {"models": 2, "params_sha256": params_sha256(params)}


def test_one_model_is_a_choice_of_a_checkpoint(tmp_path):
  first, second = save_model(tmp_path / "a", 0, 1, best=1)
  for which, expected in ((None, second), ("best", first)):
    chosen = config(tmp_path, a=dict(checkpoint=which))
    average.check(chosen)
    average.average(chosen, tmp_path / f"made_{which}")
    _, params = load_model(str(tmp_path / f"made_{which}"))
    assert all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), params, expected)))  # bit for bit


def test_a_config_with_equal_weights():
  found = average.models("a", "b", checkpoint=Which.BEST)
  assert found.to_dict()["models"] == {name: dict(path="", checkpoint="best", weight=1.0) for name in ("a", "b")}
  average.check(found)


@pytest.mark.parametrize(
  ("models", "message"),
  [
    ({}, "models: 0 with weights that sum to 0"),
    ({"a": dict(weight=1.0), "b": dict(weight=-1.0)}, "weights that sum to 0, expected a sum above 0"),
    ({"a": dict(checkpoint="newest")}, "models.a.checkpoint: 'newest', expected one of latest, best, average"),
  ],
)
def test_a_config_that_is_no_average(tmp_path, models, message):
  with pytest.raises(InputError, match=message):
    average.check(config(tmp_path, **models))


def test_models_may_differ_in_how_they_are_computed(tmp_path):
  save_model(tmp_path / "a", 0)
  save_model(tmp_path / "unrolled", 1, unroll=2, remat="full")
  assert average.average(config(tmp_path, a={}, unrolled={}), tmp_path / "made")["models"] == 2


def test_models_that_differ(tmp_path):
  save_model(tmp_path / "a", 0)
  save_model(tmp_path / "wide", 0, embed_dim=32)
  save_model(tmp_path / "words", 0, tokenizer=tiny_tokenizer([*"abcdefg"]))
  sizes = "models.wide: embed_dim is 32, that of the first model 16"
  for name, message in (("wide", sizes), ("words", "models.words: ")):
    with pytest.raises(InputError, match=message):
      average.average(config(tmp_path, a={}, **{name: {}}), tmp_path / "made")
    assert not (tmp_path / "made").exists()
