import numpy as np
import pytest

from posttrain_jax.performance import rollout, step
from tests.performance.small_work import WORK, check_times


@pytest.mark.parametrize("mode", [step.step, step.handover])
def test_the_times_are_positive_and_the_last_call_is_traced(mode, tmp_path):
  found = mode(WORK, str(tmp_path))
  check_times(found, tmp_path)
  assert ("phases" in found) == (mode is step.step)


def test_a_step_trains_on_what_was_drawn():
  engine = rollout.loaded_engine(WORK)
  groups = engine.generate(WORK.draw_prompts(), WORK.group)
  batch = step.judged_batch(WORK, groups)
  np.testing.assert_array_equal(batch.answers[3, 1], groups[3].answers[1].tokens)
  assert batch.mask.all()
  np.testing.assert_allclose(batch.advantages[..., 0], [[1, -1]] * 8, atol=1e-6)
