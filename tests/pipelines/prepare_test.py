import collections
import gzip
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest
from array_record.python.array_record_module import ArrayRecordReader

from configs import prepare as usual
from posttrain_jax.data.documents import DocumentStream
from posttrain_jax.data.prepare import inputs
from posttrain_jax.pipelines.prepare import prepare
from posttrain_jax.runs.preemption import Preempted, Preemption
from posttrain_jax.types import InputError

WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in ("ai", "eo", "u") for c in ("ran", "tol", "nim", "sel")]
QUESTION = "which of the following towns lies farthest from the sea and why is that so"


def raw_text(folder, *, documents=300, seed=0):
  """Writes JSONL, gzipped JSONL and plain text with all that is to be dropped."""
  draw = random.Random(seed)

  def plain():
    return "\n".join(
      " ".join([*draw.choices(WORDS, k=8), "the", "of"]) + f" {draw.randint(0, 10**6)}"
      for _ in range(draw.randint(6, 12))
    )

  texts = [plain() for _ in range(documents)]
  texts += draw.choices(texts, k=documents // 10)  # copies
  texts += [f"{text} {draw.choice(WORDS)}" for text in draw.choices(texts[:documents], k=documents // 10)]  # near ones
  texts += ["too short", "русский текст без латинских букв " * 20, "the of same line again\n" * 20]
  texts += [f"{plain()}\n{QUESTION.upper()}?\n", f"vile {plain()} Vile"]
  draw.shuffle(texts)
  third = len(texts) // 3
  folder.mkdir(parents=True)
  rows = [json.dumps({"id": i, "text": text}, ensure_ascii=i % 2 == 0) for i, text in enumerate(texts)]
  (folder / "a.jsonl").write_text("\n".join([rows[0], "{broken", *rows[1:third]]), "utf-8")
  (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(rows[third : 2 * third]).encode()))
  (folder / "c.txt").write_text("\n<end>\n".join(texts[2 * third :]), "utf-8")
  (folder.parent / "eval.jsonl").write_text(json.dumps({"question": QUESTION, "answer": "Bran"}), "utf-8")
  return texts


def config_for(folder, **changes):
  config = usual.get_config()
  config.input.paths, config.input.separator = (str(folder / "raw"),), "\n<end>\n"
  config.contamination.paths, config.toxicity.words = (str(folder / "eval.jsonl"),), ("vile",)
  config.workers, config.samples = 1, 2
  config.update(changes)
  return config


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  monkeypatch.setattr(inputs, "BLOCK_BYTES", 20_000)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
  folder = tmp_path_factory.mktemp("prepare")
  raw_text(folder / "raw")
  return folder


def results(workdir):
  """Returns the digest of every file that a preparation leaves, except what tells of its starts."""
  files = (path for path in sorted(workdir.rglob("*")) if path.is_file())
  return {
    str(path.relative_to(workdir)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in files
    if path.name not in ("lock", "starts.jsonl")
  }


def kept(workdir):
  return [
    json.loads(record)
    for path in sorted((workdir / "shards").iterdir())
    for record in ArrayRecordReader(str(path)).read_all()
  ]


@pytest.fixture(scope="module")
def finished(raw, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("finished") / "run"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(inputs, "BLOCK_BYTES", 20_000)
    return workdir, prepare(config_for(raw), str(workdir))


def test_every_step_drops_what_it_should(finished):
  workdir, told = finished
  assert told == {
    "documents": 366,
    "dropped_unreadable": 1,
    "dropped_length": 1,
    "dropped_symbols": 0,
    "dropped_language": 1,
    "dropped_repetition": 1,
    "dropped_toxicity": 1,
    "dropped_contamination": 1,
    "dropped_exact": 30,
    "dropped_near": 30,
    "kept": 300,
    "kept_bytes": sum(len(row["text"].encode()) for row in kept(workdir)),
    "shards": 1,
  }


def test_the_shards_have_each_kept_text_with_its_place(raw, finished):
  workdir, _ = finished
  rows = kept(workdir)
  texts = collections.Counter(row["text"] for row in rows)
  assert len(texts) == 300
  lines = (raw / "raw" / "a.jsonl").read_text("utf-8").split("\n")
  from_a = [row for row in rows if row["source"].startswith("raw/a.jsonl:")]
  assert len(from_a) > 80
  for row in from_a:
    assert json.loads(lines[int(row["source"].rpartition(":")[2]) - 1])["text"] == row["text"]
  plain = (raw / "raw" / "c.txt").read_text("utf-8").split("\n")
  from_c = next(row for row in rows if row["source"].startswith("raw/c.txt:"))
  assert plain[int(from_c["source"].rpartition(":")[2]) - 1] == from_c["text"].split("\n")[0]


def test_the_report_has_counts_and_samples(finished):
  workdir, told = finished
  report = json.loads((workdir / "report.json").read_text("utf-8"))
  for step in report["steps"]:
    assert len(step["samples"]) == min(step["documents"], 2)
    assert told[f"dropped_{step['name']}"] == step["documents"]
  reasons = {step["name"]: [each["reason"] for each in step["samples"]] for step in report["steps"]}
  assert reasons["contamination"][0].endswith("eval.jsonl:1")
  assert all(reason.startswith(("similarity 0.", "similarity 1.")) for reason in reasons["near"])
  assert report["read"]["bytes"] - report["kept"]["bytes"] == sum(step["bytes"] for step in report["steps"])
  page = (workdir / "report.md").read_text("utf-8")
  assert "| contamination | passages of evaluation sets | 1 |" in page and "## Dropped by near" in page


def test_what_is_left_in_the_workdir(finished):
  workdir, _ = finished
  names = {path.name for path in workdir.iterdir()}
  assert names >= {"config.json", "report.json", "report.md", "shards", "shards.json"} and "scratch" not in names
  (listed,) = json.loads((workdir / "shards.json").read_text("utf-8"))["shards"]
  content = (workdir / listed["file"]).read_bytes()
  assert (listed["bytes"], listed["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
  assert listed["documents"] == len(DocumentStream(workdir, seed=0)) == 300


def test_the_number_of_workers_changes_no_byte(raw, finished, tmp_path):
  workdir, told = finished
  assert prepare(config_for(raw, workers=2), str(tmp_path / "run")) == told
  assert results(tmp_path / "run") == results(workdir)


def test_a_finished_preparation_is_not_done_again(raw, finished, monkeypatch):
  workdir, told = finished
  before = results(workdir)
  monkeypatch.setattr("posttrain_jax.pipelines.prepare.in_order", None)
  assert prepare(config_for(raw, workers=3), str(workdir)) == told
  assert results(workdir) == before


class Killed(BaseException):
  """Stands for SIGKILL: nothing of the package catches it."""


def test_a_kill_at_any_change_of_the_disk_loses_nothing(raw, finished, tmp_path, monkeypatch):
  """Every file appears by os.replace, so these are all points at which a kill leaves another state behind."""
  replace, counted = os.replace, []
  monkeypatch.setattr(os, "replace", lambda *args: counted.append(args) or replace(*args))
  prepare(config_for(raw), str(tmp_path / "counted"))
  total = len(counted)
  assert total > 20
  for point in [0, 1, 2, *range(3, total - 6, 6), *range(total - 6, total)]:
    for before in (True, False):
      calls = []

      def dying(source, target, point=point, before=before, calls=calls):
        calls.append(target)
        if len(calls) == point + 1:
          if before:
            with open(source, "r+b") as file:
              file.truncate(os.path.getsize(source) // 2)  # what was not synchronised may be lost
          else:
            replace(source, target)
          raise Killed
        replace(source, target)

      workdir = tmp_path / f"{point}-{before}"
      monkeypatch.setattr(os, "replace", dying)
      with pytest.raises(Killed):
        prepare(config_for(raw), str(workdir))
      assert (workdir / "shards.json").exists() == (point == total - 1 and not before)
      monkeypatch.setattr(os, "replace", replace)
      prepare(config_for(raw), str(workdir))
      assert results(workdir) == results(finished[0])


def test_sigkill_of_a_run_with_two_workers(raw, finished, tmp_path):
  workdir = tmp_path / "run"
  source = f"""
import pathlib
from tests.pipelines import prepare_test as t
if __name__ == "__main__":
  t.inputs.BLOCK_BYTES = 20_000
  t.prepare(t.config_for(pathlib.Path({str(raw)!r}), workers=2), {str(workdir)!r})
"""
  (tmp_path / "run_it.py").write_text(source)
  for blocks in (1, 6):
    child = subprocess.Popen([sys.executable, tmp_path / "run_it.py"], env={**os.environ, "PYTHONPATH": os.getcwd()})
    while child.poll() is None and len(list(workdir.glob("scratch/blocks/*.npz"))) < blocks:
      time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
  prepare(config_for(raw, workers=2), str(workdir))
  assert results(workdir) == results(finished[0])


@pytest.mark.parametrize("step", [1, 8, 20])
def test_a_preempted_run_goes_on(raw, finished, tmp_path, monkeypatch, step):
  calls = []
  monkeypatch.setattr(Preemption, "at_step_end", lambda self: calls.append(1) or len(calls) == step)
  with pytest.raises(Preempted, match=r"screened \d+ blocks|compared band \d+ of 16"):
    prepare(config_for(raw, workers=2), str(tmp_path / "run"))
  prepare(config_for(raw), str(tmp_path / "run"))
  assert results(tmp_path / "run") == results(finished[0])


def test_several_shards(tmp_path):
  raw_text(tmp_path / "raw", documents=2200, seed=1)
  told = prepare(config_for(tmp_path, shard_megabytes=1), str(tmp_path / "run"))
  listed = json.loads((tmp_path / "run" / "shards.json").read_text("utf-8"))
  assert told["shards"] == len(listed["shards"]) == len(list((tmp_path / "run" / "shards").iterdir())) > 1
  assert sum(shard["documents"] for shard in listed["shards"]) == told["kept"] == len(kept(tmp_path / "run"))
  order = [(row["source"].split(":")[0], int(row["source"].split(":")[1])) for row in kept(tmp_path / "run")]
  assert order == sorted(order)


def test_memory_does_not_grow_with_the_text(tmp_path):
  """Eight times the text may take what arrays of a few bytes a document take, and not the text."""
  peaks = []
  for documents in (300, 2400):
    folder = tmp_path / str(documents)
    raw_text(folder / "raw", documents=documents)
    for path in (folder / "raw").glob("b*"):
      path.unlink()
    tracemalloc.start()
    told = prepare(config_for(folder, samples=0), str(folder / "run"))
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert told["kept_bytes"] > 700_000
  assert peaks[1] - peaks[0] < 0.2 * told["kept_bytes"]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda config: config.near.update(threshold=0.7), r"near\.threshold was 0\.8 when the run started, found 0\.7"),
    (lambda config: config.update(seed=1), "seed was 0"),
  ],
)
def test_another_config_in_the_same_workdir_is_refused(raw, finished, change, message):
  config = config_for(raw)
  change(config)
  with pytest.raises(InputError, match=message):
    prepare(config, str(finished[0]))


def test_other_text_in_the_same_workdir_is_refused(tmp_path):
  raw_text(tmp_path / "raw", documents=20)
  prepare(config_for(tmp_path), str(tmp_path / "run"))
  with open(tmp_path / "raw" / "c.txt", "a", encoding="utf-8") as file:
    file.write("more")
  with pytest.raises(InputError, match=r"digests\.text was"):
    prepare(config_for(tmp_path), str(tmp_path / "run"))


def test_an_unreadable_document_may_be_an_error(raw, tmp_path):
  config = config_for(raw)
  config.input.unreadable = "error"
  with pytest.raises(InputError, match=r"raw/a\.jsonl:2: malformed JSON"):
    prepare(config, str(tmp_path / "run"))


def test_bad_input_is_refused_before_a_workdir_is_made(raw, tmp_path):
  for change, message in (
    (dict(input=dict(paths=(str(tmp_path / "none"),))), "no such file or folder"),
    (dict(input=dict(field="body")), r"a\.jsonl:1: found the fields id, text, expected text in the field 'body'"),
    (dict(contamination=dict(fields=("title",))), "has none of title"),
    (dict(toxicity=dict(path=str(tmp_path / "none.txt"))), "no such file"),
  ):
    with pytest.raises(InputError, match=message):
      prepare(config_for(raw, **change), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_nothing_left_is_refused_with_the_reasons(raw, tmp_path):
  config = config_for(raw)
  config.length.lowest = 10_000
  with pytest.raises(
    InputError, match=r"no document is left of 366 \(unreadable 1, length 365\); report\.md has samples"
  ):
    prepare(config, str(tmp_path / "run"))
  assert "too short or too long | 365" in (tmp_path / "run" / "report.md").read_text("utf-8")
  assert not (tmp_path / "run" / "shards.json").exists()


def test_without_duplicates_and_rules_all_is_kept(raw, tmp_path):
  config = config_for(raw, rules=(), exact=False)
  config.near.threshold = 0.0
  told = prepare(config, str(tmp_path / "run"))
  assert told["kept"] == told["documents"] - told["dropped_unreadable"] == 365
  assert [name for name in told if name.startswith("dropped_")] == ["dropped_unreadable"]
