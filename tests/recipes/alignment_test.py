"""Tests a measurement as a stage, with answers of a careful author and made-up likelihoods."""

import json

import pytest

from posttrain_jax.data.assistant_world.answers import Author
from posttrain_jax.data.assistant_world.answers import demonstrations as answered
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import RequestKind
from posttrain_jax.data.vocabularies import byte_tokenizer
from posttrain_jax.models import flops
from posttrain_jax.recipes import alignment, outcome, runners
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.recipes.measures import Measured, measure_table, measures
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import SETTINGS, WORLD
from tests.recipes.careful_engine import TOKENIZER, answered_carefully
from tests.recipes.saved_model import save_model


def config(path, **changes):
  found = alignment.measurement(vars(SETTINGS), requests=1, samples=2)
  found.update_from_flattened_dict({"model.path": str(path), "measures.plain": 2, "measures.slots": 8, **changes})
  return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
  path = tmp_path_factory.mktemp("recipe")
  save_model(path / "model", 0, tokenizer=TOKENIZER)
  given = config(path / "model", reference=str(path / "model"))
  with answered_carefully():
    alignment.measure(given, path / "measures")
  return path, given


def test_a_model_is_measured(measured):
  path, _ = measured
  (record,) = map(json.loads, (path / "measures" / "metrics.jsonl").read_text().splitlines())
  assert record["seen/facts"] == record["held_out/facts"] == 1 and record["seen/harm_complied"] == 0
  assert record["perplexity"] == pytest.approx(2) and record["kl_low"] <= record["kl"] <= record["kl_high"]
  lines = [json.loads(line) for line in (path / "measures" / "answers.jsonl").read_text().splitlines()]
  assert len(lines) == 2 * len(RequestKind) * 2  # parts and samples
  assert {line["request"]["kind"] for line in lines} == {*RequestKind}
  assert (path / "measures" / "reliability.png").exists()
  shown = outcome.samples(path / "measures")
  assert {each["set"] for each in shown} == {*RequestKind} and all(each["samples"][0]["text"] for each in shown)
  assert record["sampling/tokens_generated"] >= sum(len(line["completion"].split()) for line in lines)


def test_the_stage_stands_in_the_table_of_measures(measured):
  path, given = measured
  stage = Stage("of_base", run=runners.ALIGNMENT, config=given, inputs={"model.path": str(path / "model")})
  found = measures([stage], {"of_base": outcome.metrics_of(path / "measures", None)})
  assert found["base"]["seen/facts"] == Measured(1, 1, 1)
  header, rows = measure_table(found)
  assert header == ["measure", "base"] and ["seen/facts", "1.000 [1.000, 1.000]"] in rows
  assert {"seen/sums_pass@2", "kl", "perplexity", "known_new"} <= {name for name, _ in rows}
  for name in runners.ALIGNMENT.files:
    assert (path / "measures" / name).exists(), name


def test_the_work_is_estimated(measured):
  path, given = measured
  found = alignment.forecast(given, Forecast(0.5))
  prompts = 2 * len(RequestKind)
  assert (found.examples, found.generated) == (prompts, prompts * 2 * 24)  # answers fill half of 48 tokens
  model, _ = Forecast(0.5).model({"path": str(path / "model")})
  assert found.sampling_flops == flops.forward(model, tokens=found.generated, pairs=0, logits=found.generated)


def test_bad_input(measured, tmp_path):
  path, given = measured
  alignment.check(given)
  with pytest.raises(InputError, match=r"model.path: empty, expected PATH_OR_NAME"):
    alignment.check(config(""))
  with pytest.raises(InputError, match=r"measures.requests: 0, expected at least 1"):
    alignment.check(config(path, **{"measures.requests": 0}))
  with pytest.raises(InputError, match=r"measures.world.animals: 3|world.animals: 3, expected a number"):
    alignment.check(config(path, **{"measures.world.animals": 3}))
  with pytest.raises(InputError, match=r"shots.kinds: 'poem', expected one of fact, unknown"):
    shown = config(path)
    shown.shots = dict(path="demonstrations.jsonl", kinds=("fact", "poem"))
    alignment.check(shown)
  with pytest.raises(InputError, match="no_such"):
    alignment.measure(config(tmp_path / "no_such"), tmp_path / "made")
  save_model(tmp_path / "sums", 0)
  with pytest.raises(InputError, match=r"model.path: .*sums has no tokens for the words of the assistant world"):
    alignment.forecast(config(tmp_path / "sums"), Forecast(0.5))
  with pytest.raises(InputError, match="token"):
    alignment.measure(config(tmp_path / "sums"), tmp_path / "made")
  save_model(tmp_path / "other", 0, tokenizer=TOKENIZER, num_layers=2)
  with pytest.raises(InputError, match=r"reference: is a model of other sizes"):
    alignment.measure(config(path / "model", reference=str(tmp_path / "other")), tmp_path / "made")
  assert not (tmp_path / "made").exists()


def demonstrations(folder, *kinds):
  """Writes two careful answers to requests of each kind."""
  requests = [request for kind in kinds for request in draw_requests(WORLD, kind, RequestPart.TRAIN, 12)]
  rows = answered(WORLD, requests, Author.CAREFUL)
  (folder / "demonstrations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(folder / "demonstrations.jsonl"), rows


def test_the_shortest_plain_request_of_each_kind_is_an_example(tmp_path):
  path, rows = demonstrations(tmp_path, RequestKind.HARM, RequestKind.FACT, RequestKind.SUM)
  found = alignment._examples(alignment.FewShots(path=path, kinds=(RequestKind.FACT, RequestKind.HARM)))
  for kind, example in zip(("fact", "harm"), found, strict=True):
    requests = [row["request"] for row in rows if (row["prompt"], row["completion"]) == example]
    assert {(each["kind"], each["language"], each["disguise"]) for each in requests} == {(kind, "english", "none")}
  shortest = min(
    len(f"{row['prompt']} {row['completion']}".split())
    for row in rows
    if row["request"]["kind"] == "fact" and row["request"]["language"] == "english"
  )
  assert len(" ".join(found[0]).split()) == shortest
  with pytest.raises(InputError, match=r"shots.kinds: .* has no English 'list', expected one of each kind"):
    alignment._examples(alignment.FewShots(path=path, kinds=(RequestKind.FACT, RequestKind.LIST)))


def test_examples_are_part_of_the_template(measured, tmp_path, monkeypatch):
  given = measured[1]
  seen = []
  monkeypatch.setattr(
    alignment, "measure_policy", lambda *given, **options: seen.append((given[2].template, options["stop"])) or 1 / 0
  )
  given = given.copy_and_resolve_references().unlock()
  given.shots = dict(path=demonstrations(tmp_path, RequestKind.FACT)[0], kinds=("fact",))
  for config_of_stage in (given, measured[1]):
    with pytest.raises(ZeroDivisionError):
      alignment.measure(config_of_stage, tmp_path / "made")
  (shown, stop), plain = seen
  assert shown.startswith("user : ") and shown.count("user :") == 2 and stop == "user :"
  assert plain == ("user : {prompt} assistant :", "")


def test_a_system_prompt_stands_before_each_request(measured, tmp_path, monkeypatch):
  seen = []
  monkeypatch.setattr(alignment, "measure_policy", lambda *given, **options: seen.append(given[2]) or 1 / 0)
  save_model(tmp_path / "english", 0, tokenizer=byte_tokenizer())
  in_world = measured[1].copy_and_resolve_references().unlock()
  in_world.system = "check that the work is right . "
  in_english = config(tmp_path / "english", **{"measures.prose": True})
  in_english.system = "Check the work."
  for each in (in_world, in_english):
    with pytest.raises(ZeroDivisionError):
      alignment.measure(each, tmp_path / "made")
  assert (seen[0].template, seen[0].system) == ("check that the work is right . user : {prompt} assistant :", None)
  assert (seen[1].template, seen[1].system) == ("{prompt}", "Check the work.")


def test_answers_are_read_request_by_request(measured, tmp_path):
  path, _ = measured
  found = alignment.read_answers(str(path / "measures" / "answers.jsonl"))
  assert len(found) == 2 * len(RequestKind) and all(len(lines) == 2 for lines in found.values())
  (tmp_path / "broken.jsonl").write_text('{"part": "seen"}\n')
  for name in ("broken.jsonl", "no_such.jsonl"):
    with pytest.raises(
      InputError, match=rf"{name}: cannot be read \(.*\), expected the answers.jsonl of a measurement"
    ):
      alignment.read_answers(str(tmp_path / name))


def test_a_model_of_english_is_asked_as_a_chat(tmp_path, monkeypatch):
  seen = []
  monkeypatch.setattr(alignment, "measure_policy", lambda *given, **options: seen.append(given[2]) or 1 / 0)
  save_model(tmp_path / "english", 0, tokenizer=byte_tokenizer())
  with pytest.raises(ZeroDivisionError):
    alignment.measure(config(tmp_path / "english", **{"measures.prose": True}), tmp_path / "made")
  assert (seen[0].chat, seen[0].template) == (True, "{prompt}")
