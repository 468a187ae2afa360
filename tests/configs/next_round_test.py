"""Tests that feedback, as the chat page stores it, is what the recipe's stages read."""

import dataclasses
import importlib
import json

import pytest

from configs.recipes import next_round
from posttrain_jax.assembly.comparisons import load_comparisons
from posttrain_jax.assembly.demonstrations import encode, read_demonstrations
from posttrain_jax.data.prompts import read_jsonl
from posttrain_jax.data.vocabularies import byte_tokenizer, tiny_tokenizer
from posttrain_jax.pipelines.dpo import DPOSettings
from posttrain_jax.pipelines.reward_model import RewardModelSettings
from posttrain_jax.pipelines.sft import SFTSettings
from posttrain_jax.recipes.load import load_recipe
from posttrain_jax.recipes.run import run_recipe
from posttrain_jax.recipes.runners import JOIN
from posttrain_jax.runs.settings import parse
from posttrain_jax.serving.feedback_rows import GivenAnswer, Origin
from posttrain_jax.serving.feedback_store import FeedbackStore
from posttrain_jax.types import InputError
from tests.recipes.saved_model import save_model

ASKED = [{"role": "user", "content": "Hi"}]


def talk(folder, prompt=ASKED, texts=("Hello", "Go away", "Good day"), count=4):
  """Stores votes, edits and thumbs; returns the store's folder."""
  one, other = (GivenAnswer(text, "m", "1", {"temperature": 1.0}) for text in texts[:2])
  with FeedbackStore(folder) as store:
    for number in range(count):
      origins = [Origin("client-01", f"{kind}-{number}-{texts[0]}", "now") for kind in "vet"]
      store.add_vote(prompt, one, other, origins[0])
      store.add_edit(prompt, other, texts[2], origins[1])
      store.add_thumb(prompt, one, True, origins[2])
  return folder


def recipe(folder, base, **changes):
  config = next_round.get_config()
  config.base, config.feedback = str(base), str(folder)
  for name, value in changes.items():
    config[name] = value
  for section in (config.sft, config.dpo, config.kto):
    section.batch_size, section.mesh.data = 8, -1
  return load_recipe("next_round.py", vars(importlib.import_module("configs.recipes.next_round")), config.lock())


@pytest.mark.parametrize("prompt", [ASKED, "Hi"], ids=["messages", "text"])
def test_each_methods_own_reader_takes_the_files_as_they_are(prompt, tmp_path):
  folder, tokenizer = talk(tmp_path / "feedback", prompt), byte_tokenizer()
  for module, settings in (("tiny_dpo", DPOSettings), ("tiny_reward_model", RewardModelSettings)):
    for file in ("votes.jsonl", "edits.jsonl"):
      config = importlib.import_module(f"configs.{module}").get_config()
      config.preferences.update(path=str(folder / file), held_out=0.0, max_prompt_length=99, max_answer_length=99)
      section = parse(settings, config).preferences
      found = load_comparisons(section, tokenizer).train
      best = tokenizer.decode(found[0].answers[0], skip_special_tokens=True)
      assert (len(found), best) == (4, "Hello" if file == "votes.jsonl" else "Good day")
  config = importlib.import_module("configs.tiny_sft").get_config()
  for file in ("liked.jsonl", "edits.jsonl"):
    config.demonstrations.update(path=str(folder / file), row_length=99, max_completion=0)
    section = parse(SFTSettings, config).demonstrations
    examples = encode(section, read_demonstrations(section)[0], tokenizer).examples
    said = tokenizer.decode(examples[0].tokens[examples[0].mask], skip_special_tokens=True)
    assert (len(examples), said) == (4, "Hello" if file == "liked.jsonl" else "Good day")


def test_the_stages_join_the_files_of_feedback(tmp_path):
  folder, joined = talk(tmp_path / "feedback"), {}
  for stage in recipe(folder, "m").stages:
    if stage.run is JOIN:
      stage.run.run(stage.resolved(tmp_path), tmp_path / stage.name)
      joined[stage.name] = [row.columns for row in read_jsonl(tmp_path / stage.name / "rows.jsonl")]
  assert [row["chosen"] for row in joined["preferences"]] == ["Good day"] * 4 + ["Hello"] * 4
  assert [row["completion"] for row in joined["demonstrations"]] == ["Good day"] * 4 + ["Hello"] * 4
  assert {row["rejected"] for row in joined["preferences"]} == {"Go away"}


def test_thumbs_and_accepted_or_rejected_answers_are_what_kto_reads(tmp_path):
  folder, labels = tmp_path / "feedback", tmp_path / "labels"
  with FeedbackStore(folder) as store:
    for number, text in enumerate(("Hello", "Go away", "Good day")):
      origin = Origin("client-01", f"t-{number}", "now")
      store.add_thumb(
        [{"role": "user", "content": f"Hi {number}"}], GivenAnswer(text, "m", "1", {}), number != 1, origin
      )
  labels.mkdir()
  for name, label in (("demonstrations", True), ("rejected", False)):
    (labels / f"{name}.jsonl").write_text(json.dumps({"prompt": "Yo", "completion": name, "label": label}) + "\n")
  joined, kto = recipe(folder, "m", labels=str(labels), train="kto").stages
  assert joined.run.run(joined.resolved(tmp_path), tmp_path / joined.name) == {
    "rows": 5,
    **dict(accepted=1, disliked=1, liked=2, rejected=1),
  }
  section = parse(DPOSettings, kto.resolved(tmp_path)).preferences
  section = dataclasses.replace(section, path=str(tmp_path / "thumbs" / "rows.jsonl"))
  found = load_comparisons(section, byte_tokenizer())
  said = {byte_tokenizer().decode(each.answers[0], skip_special_tokens=True): each.desirable for each in found.train}
  assert said == {"demonstrations": True, "Go away": False, "Hello": True, "Good day": True, "rejected": False}
  assert found.facts["data/desirable"] == 3


def test_labels_of_raters_join_them_or_stand_alone(tmp_path):
  (tmp_path / "labels").mkdir()
  pair = {"prompt": "Hi", "chosen": "Hello", "rejected": "No", "strength": "better", "edited": "Good day"}
  (tmp_path / "labels" / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
  (tmp_path / "labels" / "demonstrations.jsonl").write_text(
    json.dumps({"prompt": "Hi", "completion": "Good day"}) + "\n"
  )
  for feedback, rows in (("", 1), (talk(tmp_path / "feedback", "Hi"), 9)):
    for stage in recipe(feedback, "m", labels=str(tmp_path / "labels")).stages:
      if stage.run is JOIN:
        assert stage.run.run(stage.resolved(tmp_path), tmp_path / stage.name)["rows"] == rows
  with pytest.raises(InputError, match="feedback, labels: both are empty"):
    recipe("", "m")


@pytest.mark.slow  # half a minute
def test_the_recipe_trains_on_a_folder_of_feedback_and_again_when_there_is_more(tmp_path):
  symbols = ["1+2=", "3", "4", "5"]
  save_model(tmp_path / "base", 0, tokenizer=tiny_tokenizer(symbols))
  folder = talk(tmp_path / "feedback", "1+2=", ("3", "4", "5"))
  made = recipe(folder, tmp_path / "base")
  first = run_recipe(made, tmp_path / "run")
  assert {name: metrics.get("rows") for name, metrics in _metrics(first).items() if "rows" in metrics} == {
    "demonstrations": 8,
    "preferences": 8,
  }
  rows = [json.loads(line) for line in (tmp_path / "run" / "preferences" / "rows.jsonl").read_text().splitlines()]
  assert {row["chosen"] for row in rows} == {"3", "5"} and rows[0]["id"].startswith("e-")
  talk(folder, "1+2=", ("4", "3", "5"), count=1)
  again = run_recipe(made, tmp_path / "run")
  assert _metrics(again)["preferences"]["rows"] == 10


def _metrics(result):
  return {each["name"]: each["metrics"] for each in result["stages"]}


def test_one_of_the_two_may_be_left_out(tmp_path):
  alone = {"sft": ["demonstrations", "sft"], "dpo": ["preferences", "dpo"], "kto": ["thumbs", "kto"]}
  for train, names in alone.items():
    assert [stage.name for stage in recipe(tmp_path, "m", train=train).stages] == names
  with pytest.raises(InputError, match="train: 'ppo', expected one of both, sft, dpo, kto"):
    recipe(tmp_path, "m", train="ppo")
