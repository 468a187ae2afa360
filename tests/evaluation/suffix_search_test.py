"""Tests the search of a suffix."""

from posttrain_jax.evaluation.suffix_search import SearchSettings, search_suffix

WORDS = [chr(ord("a") + i) for i in range(12)]


def likes(suffixes):
  """Likes letters near the end of the alphabet, and "c" in the first place above all."""
  return [sum(map(ord, each.split())) / 1000 + 10 * each.startswith("c") for each in suffixes]


def test_a_search_finds_what_the_score_likes_and_never_loses_it():
  settings = SearchSettings(words=3, rounds=60, candidates=8)
  suffix, scores = search_suffix(likes, WORDS, settings, seed=0)
  assert suffix == "c l l" and len(scores) == 61
  assert scores == sorted(scores) and scores[-1] == likes([suffix])[0]


def test_the_same_seed_finds_the_same():
  settings = SearchSettings(words=2, rounds=3, candidates=2)
  found = [search_suffix(likes, WORDS, settings, seed=seed) for seed in (1, 1, 2)]
  assert found[0] == found[1] != found[2]
