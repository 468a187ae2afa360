import json

import pytest

from posttrain_jax.recipes.measures import Measured
from posttrain_jax.recipes.report import write_report
from tests.recipes.made_recipe import chain


def test_the_page_has_all_stages_with_measures_work_and_samples(tmp_path):
  stages = chain("sft", "better")
  folder = tmp_path / "better"
  (folder / "rollouts").mkdir(parents=True)
  sample = {"text": "Answer: <3>", "accuracy": 1.0, "valid": True}
  record = {"step": 0, "verdict": "evaluated", "set": "heldout", "prompt": "1+2=", "samples": [sample]}
  more = [{**record, "prompt": f"again {number}"} for number in range(2)]
  others = [{**record, "set": f"other {number}", "prompt": f"other {number}"} for number in range(3)]
  lines = "".join(json.dumps(each) + "\n" for each in (record, *more, *others))
  (folder / "rollouts" / "step_000000.jsonl").write_text(lines)
  (folder / "report.html").write_text("")
  (folder / "reliability.png").write_bytes(b"a picture")
  found = {"sft": {"avg@8": Measured(0.5, 0.4, 0.6)}}
  path = write_report(tmp_path, "arithmetic", stages, found, {"Actual work": (["stage"], [["made-up"]])})
  assert path == tmp_path / "report.html"
  page = path.read_text()
  for text in (
    "<h1>arithmetic</h1>", "0.500 [0.400, 0.600]", "made-up", "Answer: &lt;3&gt;", "rows.jsonl of sft",
    'href="better/report.html"', "data:image/png;base64,", "base64,YSBwaWN0dXJl",
  ):  # fmt: skip
    assert text in page, text
  assert 'href="sft/report.html"' not in page
  assert all(f"<pre>other {number}</pre>" in page for number in range(3)) and "again" not in page  # one of each set


@pytest.mark.parametrize("name", ["curves.png", "distances.png"])
def test_pictures_of_a_stage_are_shown(name, tmp_path):
  (tmp_path / "a").mkdir()
  (tmp_path / "a" / name).write_bytes(b"a picture")
  assert "base64,YSBwaWN0dXJl" in write_report(tmp_path, "x", chain("a"), {}, {}).read_text()


def test_a_page_without_measures(tmp_path):
  assert "<img" not in write_report(tmp_path, "x", chain("a"), {}, {}).read_text()
