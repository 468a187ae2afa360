import random
import sys

import numpy as np
import pytest

from posttrain_jax.data.prepare.signatures import NearSettings, band_keys, load_library, signatures
from posttrain_jax.data.prepare.words import hash_words, split
from posttrain_jax.types import InputError

NEAR = NearSettings(threshold=0.8, words=3, permutations=256, bands=32)


def signed(texts, settings=NEAR, seed=0):
  return signatures(hash_words(texts), np.arange(len(texts), dtype=np.uint64), settings, seed)


def jaccard(a, b, n=3):
  sets = [{tuple(words[i : i + n]) for i in range(len(words) - n + 1)} for words in (split(a), split(b))]
  return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_equal_entries_estimate_the_jaccard_similarity():
  draw = random.Random(0)
  errors = []
  for _ in range(60):
    words = draw.choices([f"w{i}" for i in range(500)], k=200)
    changed = list(words)
    for place in draw.sample(range(200), draw.randint(1, 40)):
      changed[place] = "other"
    a, b = " ".join(words), " ".join(changed)
    found = signed([a, b])
    errors.append(float((found[0] == found[1]).mean()) - jaccard(a, b))
  # The estimate's standard error is at most 0.5 / √256 = 0.031; that of the mean of 60 is 0.004.
  assert abs(np.mean(errors)) < 0.016 and np.std(errors) < 0.045


def test_a_signature_depends_on_its_document_and_the_seed_alone():
  texts = ["a b c d e", "x y", "", "p q r s", "z"]
  together = signed(texts)
  alone = np.concatenate([signatures(hash_words([t]), np.array([i], np.uint64), NEAR, 0) for i, t in enumerate(texts)])
  np.testing.assert_array_equal(together, alone)
  assert (signed(texts, seed=1) != together).mean() > 0.9


def test_short_documents_are_sets_of_one():
  found = signed(["x y", "X, y!", "y x", "x", "", ""])
  same = [[(a == b).all() for b in found] for a in found]
  assert np.array(same).tolist() == (np.eye(6, dtype=bool) | (np.arange(6)[:, None] + np.arange(6) == 1)).tolist()


def test_keys_are_equal_where_a_band_is():
  draw = np.random.default_rng(0)
  made = draw.integers(0, 2, (200, 12)).astype(np.uint32)
  keys = band_keys(made, 4)
  assert keys.shape == (4, 200)
  for band in range(4):
    part = made[:, 3 * band : 3 * band + 3]
    np.testing.assert_array_equal(keys[band][:, None] == keys[band], (part[:, None] == part[None]).all(axis=-1))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(threshold=80.0), r"near\.threshold: 80\.0"),
    (dict(words=0), "must be at least 1"),
    (dict(bands=30), r"near\.bands: 30 does not divide near\.permutations = 256"),
  ],
)
def test_settings_that_are_refused(changes, message):
  with pytest.raises(InputError, match=message):
    NearSettings(**dict(threshold=0.8, words=3, permutations=256, bands=32) | changes)


def test_a_missing_library_is_named(monkeypatch):
  assert load_library().startswith("rensa, algorithm ")
  monkeypatch.setitem(sys.modules, "rensa", None)
  with pytest.raises(InputError, match=r"pip install 'posttrain_jax\[prepare\]'"):
    load_library()
