"""Makes work small enough to be timed in tests."""

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.performance.work import Work

MODEL = TransformerConfig(
  vocab_size=96, num_layers=2, embed_dim=16, mlp_dim=32, num_heads=4, num_kv_heads=2, head_dim=4, tied=True
)


WORK = Work(MODEL, prompts=8, group=2, prompt_length=3, new_tokens=4, slots=16, steps_per_dispatch=2, runs=2)


def check_times(found, trace):
  """Checks that numbers are positive, phases are those of a step, and there is a trace."""
  assert all(value > 0 for value in found.values() if not isinstance(value, dict))
  assert any(path.suffix == ".pb" for path in trace.rglob("*"))
  for phases in (value for value in found.values() if isinstance(value, dict)):
    assert set(phases) == {"rollout", "train", "handover"} and all(value > 0 for value in phases.values())
