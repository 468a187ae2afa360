"""Makes queries, pages and lists of pages, for tests of the kernels that read them."""

import jax.numpy as jnp
import numpy as np

from posttrain_jax.models.paged_attention import LIST_UNIT, PageList

PAGE, KV_HEADS, PAGES = 8, 2, 48
LENGTHS = np.array([70, 0, 9, 0, 160], np.int32)
# Owner 1 has no page. Owner 3 has pages that are not begun. Owner 4 has more than two steps of the grid.
OWNED = [10, 0, 2, 1, 20]


def inputs(width, rows, dtype, seed=0):
  """Makes queries, keys and values, and a list of more than a chunk of scattered pages."""
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)  # noqa: E731
  query = draw(len(OWNED), KV_HEADS, rows, width)
  keys, values = draw(PAGES, KV_HEADS, PAGE, width), draw(PAGES, KV_HEADS, PAGE, width)
  order = iter(rng.permutation(PAGES))
  return query, keys, values, listing([(owner, [next(order) for _ in range(n)]) for owner, n in enumerate(OWNED)])


def listing(owned):
  entries = np.zeros((3, 2 * LIST_UNIT), np.int32)
  found = [(owner, page, number) for owner, pages in owned for number, page in enumerate(pages)]
  entries[:, : len(found)] = np.array(found).T
  return PageList(*entries, count=np.array([len(found)], np.int32))


def assert_same(found, expected, tolerance):
  """Compares attention that is not divided yet: what it comes to, sums of weights and largest scores."""
  for one, other in zip(found, expected):
    assert one.shape == other.shape and one.dtype == jnp.float32
  divided = (np.asarray(x[0]) / np.where(x[1] == 0, 1, x[1]) for x in (found, expected))
  np.testing.assert_allclose(*divided, atol=tolerance)
  np.testing.assert_allclose(found[1], expected[1], rtol=1e-4)
  np.testing.assert_allclose(found[2], expected[2], atol=1e-4)
