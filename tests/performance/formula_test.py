import pytest

from posttrain_jax.performance import formula
from posttrain_jax.performance.chips import Chip
from posttrain_jax.performance.counts import Pass, PassKind
from tests.performance.small_work import WORK


def test_a_step_is_compared_with_the_formula(tmp_path):
  found = formula.formula(WORK, str(tmp_path))
  assert any(path.suffix == ".pb" for path in tmp_path.rglob("*"))
  assert found["machine_flops_per_second"] > 0 and found["machine_bytes_per_second"] > 0
  assert (found["mean_answer_tokens"], found["decode_steps"]) == (4, 4)  # 16 answers of 4 tokens in 16 slots
  for phase in ("rollout", "update"):
    part = found[phase]
    assert all(part[name] > 0 for name in ("seconds", "tokens_per_second", "least_seconds", "share_of_least"))
    assert part["bound"] in ("compute", "memory")
  assert found["rollout"]["decode_step_seconds"] == pytest.approx(found["rollout"]["seconds"] / 4, rel=1e-3)
  assert found["step"]["seconds"] >= found["rollout"]["seconds"]


def test_shares_are_of_the_chips_peaks():
  """A chip of twice the peaks halves the shares; without a chip there are none."""
  pass_ = Pass(WORK.model, PassKind.SAMPLE, tokens=100, pairs=0, logits=100, cache_tokens=50)
  chip = Chip("one", 1e6, 1e5, 1.0)
  twice = Chip("two", 2e6, 2e5, 1.0)
  one, two = (formula._phase([(2.0, pass_)], each) for each in (chip, twice))
  assert one["share_of_peak"] == pytest.approx(pass_.flops / 2.0 / 1e6, rel=1e-3)
  weights = pass_.weights * 4 + 50 * pass_.cache_bytes_of_token
  assert one["share_of_bandwidth"] == pytest.approx(weights / 2.0 / 1e5, rel=1e-3)
  for name in ("share_of_peak", "share_of_bandwidth", "least_seconds", "share_of_least"):
    assert two[name] == pytest.approx(one[name] / 2, rel=2e-3)
  unknown = formula._phase([(2.0, pass_)], None)
  assert unknown["tokens_per_second"] == 50 and unknown["share_of_peak"] is None and unknown["bound"] is None
