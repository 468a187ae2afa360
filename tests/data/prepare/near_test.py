import dataclasses
import random

import numpy as np
import pytest

from posttrain_jax.data.prepare import near
from posttrain_jax.data.prepare.exact import KEPT
from posttrain_jax.data.prepare.near import SignatureFile, mark_near
from tests.data.prepare.small_blocks import NEAR, written

COUNT = 240


def similar_texts(seed=0):
  """Writes originals and copies in which up to a third of the words changed, or nothing."""
  draw = random.Random(seed)
  texts = []
  while len(texts) < COUNT:
    words = draw.choices([f"w{i}" for i in range(400)], k=draw.randint(60, 150))
    texts.append(" ".join(words))
    for _ in range(draw.randint(0, 4)):
      copy = list(words)
      for place in draw.sample(range(len(copy)), int(len(copy) * draw.choice([0, 0.01, 0.02, 0.05, 0.1, 0.3]))):
        copy[place] = f"n{draw.randint(0, 400)}"
      texts.append(" ".join(copy))
  draw.shuffle(texts)
  return texts[:COUNT]


def jaccards(texts, n):
  sets = [{tuple(words[i : i + n]) for i in range(len(words) - n + 1)} for words in map(str.split, texts)]
  return np.array([[len(a & b) / len(a | b) for b in sets] for a in sets])


def mark(blocks, folder, **options):
  earlier = np.full(COUNT, KEPT, np.int64)
  steps = list(mark_near(blocks, earlier, NEAR, folder, **options))
  return earlier, steps


@pytest.fixture(scope="module")
def texts():
  return similar_texts()


@pytest.fixture(scope="module")
def exact(texts):
  return jaccards(texts, NEAR.words)


def test_near_duplicates_against_a_comparison_of_all_pairs(tmp_path, texts, exact):
  """The estimate's standard error at 0.8 is √(0.8 · 0.2 / 128) = 0.035; the bounds below are four of them away."""
  earlier, _ = mark(written(tmp_path, texts, sizes=[100, 0, 140]), tmp_path)
  dropped = np.flatnonzero(earlier != KEPT)
  assert 40 < len(dropped) < 200
  assert (earlier[dropped] < dropped).all()
  assert exact[dropped, earlier[dropped]].min() > 0.8 - 0.14
  kept = np.flatnonzero(earlier == KEPT)
  among_kept = exact[np.ix_(kept, kept)] - np.eye(len(kept))
  assert among_kept.max() < 0.8 + 0.14
  # Both sides of the threshold occur, so neither bound is empty.
  assert ((exact > 0.6) & (exact < 0.75)).any() and ((exact > 0.85) & (exact < 1)).any()


def test_no_two_kept_documents_are_estimated_similar_and_agree_in_a_band(tmp_path, texts):
  blocks = written(tmp_path, texts, sizes=[COUNT])
  earlier, _ = mark(blocks, tmp_path)
  signatures, bands = blocks.read(0, "signatures", "bands")
  kept = np.flatnonzero(earlier == KEPT)
  estimates = (signatures[kept][:, None] == signatures[kept][None]).mean(-1)
  agree = (bands[:, kept][:, :, None] == bands[:, kept][:, None]).any(0)
  assert (agree & (estimates >= NEAR.threshold)).tolist() == np.eye(len(kept), dtype=bool).tolist()
  dropped = np.flatnonzero(earlier != KEPT)
  assert ((signatures[dropped] == signatures[earlier[dropped]]).mean(-1) >= NEAR.threshold).all()


@pytest.mark.parametrize("sizes", [[COUNT], [7] * 34 + [2]])
def test_neither_blocks_nor_memory_change_the_result(tmp_path, monkeypatch, texts, sizes):
  (tmp_path / "a").mkdir()
  (tmp_path / "b").mkdir()
  expected, _ = mark(written(tmp_path / "a", texts, sizes=[100, 140]), tmp_path / "a")
  monkeypatch.setattr(near, "_HELD", 2)
  found, _ = mark(written(tmp_path / "b", texts, sizes=sizes), tmp_path / "b", capacity=10)
  np.testing.assert_array_equal(found, expected)


def test_documents_that_have_an_earlier_one_take_no_part(tmp_path):
  texts = ["a b c d e f g h", "a b c d e f g h", "a b c d e f g h"]
  blocks = written(tmp_path, texts, sizes=[3])
  earlier = np.array([KEPT, 0, KEPT])
  list(mark_near(blocks, earlier, NEAR, tmp_path))
  assert earlier.tolist() == [KEPT, 0, 0]
  earlier = np.array([2, KEPT, KEPT])  # not compared with document 0
  for state in tmp_path.glob("earlier-*"):
    state.unlink()
  list(mark_near(blocks, earlier, NEAR, tmp_path))
  assert earlier.tolist() == [2, KEPT, 1]


def test_a_killed_start_goes_on_after_the_last_band(tmp_path, texts):
  blocks = written(tmp_path, texts, sizes=[COUNT])
  expected, steps = mark(blocks, tmp_path)
  assert steps == list(range(1, NEAR.bands + 1))
  for state in tmp_path.glob("earlier-*"):
    state.unlink()
  earlier = np.full(COUNT, KEPT, np.int64)
  work = mark_near(blocks, earlier, NEAR, tmp_path)
  assert [next(work) for _ in range(5)][-1] == 5
  work.close()
  found, steps = mark(blocks, tmp_path)
  assert steps == list(range(6, NEAR.bands + 1))
  np.testing.assert_array_equal(found, expected)


def test_signatures_are_read_by_position(tmp_path, texts):
  blocks = written(tmp_path, texts, sizes=[100, 140])
  expected = np.concatenate([found for (found,) in blocks.each("signatures")])
  with SignatureFile(tmp_path / "signatures", blocks, NEAR.permutations) as file:
    np.testing.assert_array_equal(file.read(np.array([239, 0, 100])), expected[[239, 0, 100]])
    assert file.similar(3, np.array([3])).tolist() == [1.0]
    assert file.similar(3, np.zeros(0, np.int64)).tolist() == []


def test_a_higher_threshold_keeps_more(tmp_path, texts):
  counts = []
  for threshold in (0.6, 0.8, 1.0):
    folder = tmp_path / str(threshold)
    folder.mkdir()
    earlier = np.full(COUNT, KEPT, np.int64)
    list(
      mark_near(written(folder, texts, sizes=[COUNT]), earlier, dataclasses.replace(NEAR, threshold=threshold), folder)
    )
    counts.append(int((earlier == KEPT).sum()))
  assert counts == sorted(set(counts))
