import json

import pytest

from posttrain_jax.assembly.model import load_model
from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.recipes import choice
from posttrain_jax.types import InputError
from tests.recipes.saved_model import save_model


@pytest.fixture
def config(tmp_path):
  def make(metric, **values):
    found = choice.models(metric, *values)
    for seed, (name, value) in enumerate(values.items()):
      if not (tmp_path / name).exists():
        save_model(tmp_path / name, seed)
      (tmp_path / f"{name}_measures").mkdir(exist_ok=True)
      file = tmp_path / f"{name}_measures" / "metrics.jsonl"
      file.write_text(json.dumps({"step": 0, "score": 0.0}) + "\n" + json.dumps({"step": 1, "score": value}) + "\n")
      found.models[name].update(path=str(tmp_path / name), measures=str(file))
    return found

  return make


def test_the_highest_or_the_lowest_value_is_chosen(config, tmp_path):
  for metric, expected in (("score", "b"), ("-score", "a")):
    made = choice.choose(config(metric, a=0.1, b=0.3, c=0.2), tmp_path / f"made{metric}")
    assert made["chosen"] == expected and (made["a"], made["b"], made["c"]) == (0.1, 0.3, 0.2)
    _, params = load_model(str(tmp_path / f"made{metric}"))
    assert params_sha256(params) == made["params_sha256"] == params_sha256(load_model(str(tmp_path / expected))[1])


def test_bad_input(config, tmp_path):
  choice.check(config("score", a=0.1))
  with pytest.raises(InputError, match="models: found none"):
    choice.check(choice.models("score"))
  with pytest.raises(InputError, match=r"metrics.jsonl: found no number other"):
    choice.choose(config("other", a=0.1), tmp_path / "made")
  with pytest.raises(InputError, match=r"models.a.weight: unknown"):
    choice.check(choice.ConfigDict({"metric": "score", "models": {"a": {"weight": 1.0}}}))
