import random

import pytest

from posttrain_jax.data.prepare.exact import KEPT, mark_exact
from tests.data.prepare.small_blocks import written


@pytest.mark.parametrize("capacity", [5, 1000])
def test_the_first_of_equal_texts_stays(tmp_path, capacity):
  draw = random.Random(0)
  texts = [f"text {draw.randint(0, 30)}{draw.choice(['', ' ', '!'])}" for _ in range(100)]
  blocks = written(tmp_path, texts, sizes=[10, 0, 40, 50])
  found = mark_exact(blocks, 100, tmp_path, capacity=capacity).tolist()
  first = {}
  expected = []
  for place, text in enumerate(texts):
    expected.append(first.setdefault(text.strip(), place))
  assert found == [KEPT if place == earlier else earlier for place, earlier in enumerate(expected)]
  assert 20 < found.count(KEPT) < 80
