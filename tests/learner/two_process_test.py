"""Tests that two processes of four devices learn the same as one of eight devices."""

import jax
import numpy as np

from tests import two_processes
from tests.learner import fixed_rollouts


def test_two_processes_agree_with_one_and_each_layout_repeats_itself(tmp_path):
  job = two_processes.start("-m", "tests.learner.fixed_rollouts", f"--output={tmp_path}/", devices=4)
  expected = fixed_rollouts.results()  # meanwhile; asserts that it repeats itself, as the others do
  assert jax.device_count() == 8
  codes, _, errors = two_processes.finish(job)
  assert codes == [0, 0], errors[0][-2000:] + errors[1][-2000:]

  first, second = (dict(np.load(tmp_path / f"{index}.npz")) for index in (0, 1))
  assert first.keys() == second.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(first[name], second[name], err_msg=name)  # every process knows the same
    tolerance = dict(rtol=1e-4, atol=1e-6) if name.startswith("metric") else dict(rtol=0, atol=5e-6)
    np.testing.assert_allclose(first[name], value, err_msg=name, **tolerance)
  assert len(expected["metric loss"]) == fixed_rollouts.STEPS and not expected["metric skipped_updates"].any()
  moved = expected["metric kl/reference"]
  assert moved[-1] > 10 * moved[0]  # the policy has moved: else agreement would say nothing
