import pytest

from posttrain_jax.models.sizes import sizes
from posttrain_jax.performance import roofline
from posttrain_jax.performance.roofline import Product

MODEL = sizes("smol_4layer")
# Weights that hidden states are multiplied with: all but the norms' scales; the tied table counts once.
MULTIPLIED = MODEL.num_params - (2 * MODEL.num_layers + 1) * MODEL.embed_dim


def test_weight_shapes_are_all_of_the_models_weights():
  assert sum(k * n * count for k, n, count in roofline.weight_shapes(MODEL)) == MULTIPLIED


def test_a_decode_step_is_two_flops_a_weight_and_row():
  assert sum(product.flops for product in roofline.decode_products(MODEL, rows=64)) == 2 * 64 * MULTIPLIED


def test_an_update_is_six_flops_a_weight_and_token():
  products = roofline.update_products(MODEL, tokens=1000, answer_tokens=800, chunk=300)
  head = MODEL.embed_dim * MODEL.vocab_size
  assert sum(product.flops for product in products) == pytest.approx(6 * (1000 * (MULTIPLIED - head) + 800 * head))
  assert max(product.m for product in products if product.n == MODEL.vocab_size) == MODEL.embed_dim


def test_decode_bytes():
  """Counts float32 weights, and keys and values of 4 layers, 3 heads of 64, in 2 rows of 10."""
  assert roofline.decode_bytes(MODEL, rows=2, length=10) == 4 * (MULTIPLIED + 2 * 4 * 2 * 10 * 3 * 64)


def test_limit_adds_up_products(monkeypatch):
  monkeypatch.setattr(roofline, "_rate", lambda product, dtype: {2: 10.0, 3: 20.0}[product.m])
  products = [Product(2, 5, 7, count=3), Product(3, 5, 7, count=1)]
  assert roofline.limit_seconds(products, "float32") == pytest.approx(2 * 2 * 5 * 7 * 3 / 10 + 2 * 3 * 5 * 7 / 20)


def test_rates_are_measured():
  assert roofline.limit_seconds([Product(8, 16, 32, count=1)], "bfloat16") > 0


def test_the_machine_has_a_peak():
  found = roofline.machine("float32")
  assert found.flops_per_second > 0 and found.bytes_per_second > 0 and found.links is None
