import threading

import pytest

from posttrain_jax.rewards import symbolic

pytest.importorskip("math_verify", reason="math-verify, an optional extra, is not installed")


def test_equivalent_formulas():
  texts = ["\\boxed{\\frac{1+x}{2}}", "\\boxed{0.5}", "\\boxed{x}", "nothing"]
  rows = [{"answer": "\\frac{x}{2} + \\frac{1}{2}"}, {"answer": "$\\frac12$"}, {"answer": "y"}, {"answer": "y"}]
  assert symbolic.math_equal(texts, rows) == [1, 1, 0, 0]


def test_works_off_the_main_thread():
  rewards = []
  call = lambda: rewards.extend(symbolic.math_equal(["\\boxed{2x}"], [{"answer": "x + x"}]))  # noqa: E731
  thread = threading.Thread(target=call)
  thread.start()
  thread.join()
  assert rewards == [1]
