import jax.numpy as jnp
import numpy as np

from posttrain_jax.models.config import RopeScaling
from posttrain_jax.models.rotary import rotary_frequencies, rotate, rotation_at


def test_a_quarter_turn_by_hand():
  # One pair of dimensions, (i, i + H / 2) = (0, 1), that turns by π/2 a position: (1, 2) → (−2, 1) → (−1, −2).
  rotation = rotation_at(jnp.array([[0, 1, 2]]), jnp.array([np.pi / 2]))
  assert rotation[0].shape == (1, 3, 1, 1)
  turned = rotate(jnp.broadcast_to(jnp.array([1.0, 2.0]), (1, 3, 1, 2)), rotation)
  np.testing.assert_allclose(turned[0, :, 0], [[1, 2], [-2, 1], [-1, -2]], atol=1e-6)


def test_rotation_keeps_lengths_and_depends_on_distances_only():
  x = np.random.default_rng(1).normal(size=(1, 2, 1, 8)).astype(np.float32)
  frequencies = rotary_frequencies(8, 100.0, None)
  np.testing.assert_allclose(frequencies, 100.0 ** (-np.arange(0, 8, 2) / 8), rtol=1e-6)
  near, far = (np.asarray(rotate(x, rotation_at(jnp.array([[p, p + 3]]), frequencies))) for p in (0, 40))
  np.testing.assert_allclose(np.linalg.norm(near), np.linalg.norm(x), rtol=1e-6)
  np.testing.assert_array_equal(near[0, 0], x[0, 0])  # position 0 does not turn
  np.testing.assert_allclose((near[0, 0] * near[0, 1]).sum(), (far[0, 0] * far[0, 1]).sum(), rtol=1e-4)
  rotation = rotation_at(jnp.array([[0, 1]]), frequencies)
  assert rotate(x.astype(jnp.bfloat16), rotation).dtype == jnp.bfloat16


def test_llama_3_scaling_by_hand():
  """Wavelengths over 8192 are stretched 8 times, those under 2048 stay, and in between it is gradual."""
  scaling = RopeScaling(factor=8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_length=8192)
  plain = np.asarray(rotary_frequencies(64, 500_000.0, None), np.float64)
  scaled = np.asarray(rotary_frequencies(64, 500_000.0, scaling), np.float64)
  wavelengths = 2 * np.pi / plain
  np.testing.assert_allclose(scaled[wavelengths < 2048], plain[wavelengths < 2048], rtol=1e-6)
  np.testing.assert_allclose(scaled[wavelengths > 8192], plain[wavelengths > 8192] / 8, rtol=1e-6)
  between = (wavelengths >= 2048) & (wavelengths <= 8192)
  smooth = (8192 / wavelengths[between] - 1) / 3
  assert between.any()
  np.testing.assert_allclose(scaled[between], (1 - smooth) * plain[between] / 8 + smooth * plain[between], rtol=1e-5)
