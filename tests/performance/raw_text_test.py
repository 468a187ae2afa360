import collections
import gzip
import json

from posttrain_jax.performance.raw_text import write_raw_text


def lines(folder):
  return [
    (gzip.open if path.suffix == ".gz" else open)(path, "rb").read().splitlines() for path in sorted(folder.iterdir())
  ]


def test_files_have_the_size_and_the_faults_that_are_asked_for(tmp_path):
  (tmp_path / "a").mkdir()
  (tmp_path / "b").mkdir()
  count = write_raw_text(tmp_path / "a", 3_000_000, seed=1, files=3)
  assert write_raw_text(tmp_path / "b", 3_000_000, seed=1, files=3) == count
  files = lines(tmp_path / "a")
  assert lines(tmp_path / "b") == files
  assert [path.name for path in sorted((tmp_path / "a").iterdir())] == [
    "web-00.jsonl",
    "web-01.jsonl.gz",
    "web-02.jsonl",
  ]
  assert sum(map(len, files)) == count > 500
  assert all(1_000_000 <= sum(map(len, rows)) < 1_100_000 for rows in files)
  rows = [row for rows in files for row in rows]
  broken = [row for row in rows if not row.endswith(b"}")]
  assert 0 < len(broken) < 0.03 * count
  texts = collections.Counter(json.loads(row)["text"] for row in rows if row not in broken)
  assert 0.02 * count < sum(number - 1 for number in texts.values()) < 0.1 * count
