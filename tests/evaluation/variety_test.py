import jax
import numpy as np
import pytest

from configs import tiny_forgetting
from posttrain_jax.assembly.model import Policy
from posttrain_jax.data import prompts
from posttrain_jax.data.demonstrations import SYMBOLS
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.evaluation import variety
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import Group, InputError
from tests.pipelines.made_groups import answer

TOKENIZER = tiny_tokenizer(SYMBOLS)
SIZES = dict(num_layers=2, embed_dim=8, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=4)
POLICY = Policy(TransformerConfig(vocab_size=TOKENIZER.vocab_size, **SIZES), TOKENIZER)


class Engine:
  """Says "1 1 1" and "1 2 3" to the first prompt, and "1 2 3" twice to the others."""

  def __init__(self, model, sampling, sizes, **settings):
    self.sampling, self.sizes, self.settings, self.calls = sampling, sizes, settings, []

  def load(self, params, version):
    self.calls.append(("load", params, version))

  def unload(self):
    self.calls.append("unload")

  def generate(self, found, samples):
    assert samples == 2
    return [
      Group(prompt, (answer([1, 1, 1] if i == 0 else [1, 2, 3]), answer([1, 2, 3]))) for i, prompt in enumerate(found)
    ]


def make_variety(monkeypatch, rows, **changes):
  monkeypatch.setattr(variety, "Engine", Engine)
  samples = tiny_forgetting.get_config().samples
  samples.update({"prompts": 2, "samples": 2, "max_prompt_length": 4, **changes})
  samples = parse(variety.VarietySettings, samples, "samples")
  return variety.Variety(samples, POLICY, rows, make_mesh({}, jax.devices()[:1]), field="text", seed=0)


ROWS = prompts.named_rows([{"text": "1+2="}, {"text": "1+2+3+4+5="}, {"text": "3*4="}, {"text": "5*6="}], "made")


def test_variety_is_that_of_a_prompts_samples_together(monkeypatch):
  found_variety = make_variety(monkeypatch, ROWS)
  found = found_variety("params", 7)
  # First prompt: tokens 1 2 3 of 6, bigrams 11 12 23 of 4; second: 1 2 3 of 6, bigrams 12 23 of 4.
  assert found["distinct_1"] == pytest.approx((3 / 6 + 3 / 6) / 2)
  assert found["distinct_2"] == pytest.approx((3 / 4 + 2 / 4) / 2)
  assert found["distinct_2_low"] == pytest.approx(2 / 4) and found["distinct_2_high"] == pytest.approx(3 / 4)
  vocabulary = TOKENIZER.vocab_size
  assert found["ead"] == pytest.approx(3 / (vocabulary * (1 - ((vocabulary - 1) / vocabulary) ** 6)))
  assert found["length"] == 3
  engine = found_variety._engine
  assert engine.calls == [("load", "params", 7), "unload"]
  assert engine.sampling.temperature == 1 and engine.sampling.stop_ids == TOKENIZER.stop_ids


def test_prompts_over_the_limit_are_passed_over(monkeypatch):
  found_variety = make_variety(monkeypatch, ROWS, prompts=3)
  assert [prompt.index for prompt in found_variety._prompts] == [0, 2, 3]
  with pytest.raises(InputError, match="over the limit of 1 tokens"):
    make_variety(monkeypatch, ROWS, max_prompt_length=1)


def test_settings_that_mean_nothing(monkeypatch):
  with pytest.raises(InputError, match=r"samples\.prompts: 0, expected at least 1"):
    make_variety(monkeypatch, ROWS, prompts=0)


def test_samples_of_one_token_have_no_bigrams(monkeypatch):
  monkeypatch.setattr(Engine, "generate", lambda self, found, samples: [Group(p, (answer([1]),)) for p in found])
  found = make_variety(monkeypatch, ROWS)("params", 0)
  assert np.isnan(found["distinct_2"]) and found["distinct_1"] == 1
