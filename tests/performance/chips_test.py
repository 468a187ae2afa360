import jax
import pytest

from posttrain_jax.performance.chips import CHIPS, Links, chip_of


def test_rows_to_be_bound_by_compute():
  """Compares with the scaling book's 240 rows on v5e in bfloat16 and 120 with weights of one byte ("Inference")."""
  v5e = chip_of("TPU v5 lite")
  assert v5e.rows_to_be_bound_by_compute() == pytest.approx(240, rel=0.02)
  assert v5e.rows_to_be_bound_by_compute(itemsize=1) == pytest.approx(120, rel=0.02)


def test_a_device_that_is_not_in_the_table():
  assert chip_of("NVIDIA GeForce GTX 1080") is None and chip_of(jax.devices()[0].device_kind) is None


def test_a_pod_computes_as_much_as_the_book_says():
  """Compares with "How to Think About TPUs", question 2: 8,960 v5p have 4e18 FLOPs a second and 860 TB."""
  v5p = chip_of("TPU v5")
  assert 8960 * v5p.flops_per_second == pytest.approx(4e18, rel=0.03)
  assert 8960 * v5p.memory_bytes == pytest.approx(860e12, rel=0.01)


@pytest.mark.parametrize(
  ("axes", "extents", "closed"),
  [
    (2, (16, 16), (True, True)),
    (2, (8, 16), (False, True)),  # of the book's footnote
    (2, (4, 4), (False, False)),
    (3, (4, 4, 8), (True, True, True)),
    (3, (2, 2, 4), (False, False, False)),  # no whole cube, of the same footnote
  ],
)
def test_rings(axes, extents, closed):
  assert Links(1.0, axes, 1.0).closed(extents) == closed


def test_only_tpus_have_links():
  assert {kind for kind, chip in CHIPS.items() if chip.links} == {kind for kind in CHIPS if kind.startswith("TPU")}
