"""Tests how a judge is asked about an answer."""

from posttrain_jax.data.verdict_question import ENGLISH


def test_both_orders_have_both_statements_and_the_letters_stay():
  straight, swapped = (ENGLISH.ask("how {x} ?", "so", swapped=each) for each in (False, True))
  assert straight != swapped and sorted(straight) == sorted(swapped)
  for text, first in ((straight, ENGLISH.complies), (swapped, ENGLISH.refuses)):
    assert f"(A) {first}\n(B) " in text and "how {x} ?" in text and "\nso\n" in text
