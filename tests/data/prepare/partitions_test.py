import collections

import numpy as np
import pytest

from posttrain_jax.data.prepare.partitions import groups, parts


def blocks_of(keys, sizes):
  return np.split(keys, np.cumsum(sizes))


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("capacity", [3, 20, 1000])
def test_groups_of_equal_keys_are_found_whatever_fits_into_memory(tmp_path, width, capacity):
  draw = np.random.default_rng(capacity)
  keys = draw.integers(0, 8, (100, 2)).astype(np.uint64) * np.uint64(2**61 + 1)
  keys = keys[:, 0] if width == 1 else keys
  expected = collections.defaultdict(list)
  for document, key in enumerate(keys.reshape(100, -1).tolist()):
    expected[tuple(key)].append(document)
  found, held = [], []
  for part, documents in parts(blocks_of(keys, [0, 30, 1, 0, 60]), 100, tmp_path, capacity=capacity):
    held.append(len(part))
    assert (np.diff(documents) > 0).all()
    found += [group.tolist() for group in groups(part, documents)]
  assert sorted(found) == sorted(group for group in expected.values() if len(group) > 1)
  assert len(found) == len(set(map(tuple, found))) >= 8
  assert sum(held) == 100 and (len(held) == 1) == (capacity == 1000)
  assert list(tmp_path.iterdir()) == []


def test_no_keys(tmp_path):
  assert list(parts([], 0, tmp_path)) == []
  assert list(groups(np.zeros(0, np.uint64), np.zeros(0, np.int64))) == []
