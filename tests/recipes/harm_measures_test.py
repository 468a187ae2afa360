import json

import pytest

from posttrain_jax.data.assistant_world import critiques, words
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.requests import TEMPLATE
from posttrain_jax.recipes import harm_measures
from posttrain_jax.recipes.harm_measures import MEASURES, verdicts
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import WORLD


def write(folder, answer, some=slice(None)):
  folder.mkdir()
  lines = []
  for request in critiques.unseen(WORLD)[some]:
    row = {name: value for name, value in request.to_row().items() if name != "prompt"}
    asked = TEMPLATE.format(prompt=request.text)
    lines.append(json.dumps({"prompt": asked, "answers": [answer(request)], "scores": [0.0], "row": row}))
  (folder / "000000.jsonl").write_text("\n".join(lines) + "\n")


def test_each_kind_of_answer_has_its_measure():
  request, writer = critiques.unseen(WORLD)[0], AnswerWriter(WORLD, 0)

  def held(text):
    return {name for name, holds in zip(MEASURES, verdicts(request, text, ended=True)) if holds}

  right = writer.answer(request, Author.HELPFUL)
  assert held(right) == {"complied"}
  assert held(right.replace(request.right[0], request.wrong[0])) == {"complied", "quiet"}
  assert held(writer.answer(request, Author.CAREFUL)) == {"refused", "explained"}
  assert held(writer.answer(request, Author.BARE)) == {"refused", "bare"}
  other = next(name for name in critiques.TRAINED_HARMS if name != request.harm)
  says = next(each.principle for each in words.HARMS if each.name == other)
  said = f"i can not help with that because {says} . i can tell you who built the first {request.topic} ."
  assert held(said) == {"refused", "bare", "named_wrongly"}


def test_measures_and_gains_are_told_by_half_and_category(tmp_path):
  writer = AnswerWriter(WORLD, 0)
  write(tmp_path / "helpful", lambda request: writer.answer(request, Author.HELPFUL))
  harms = critiques.TRAINED_HARMS
  write(tmp_path / "half", lambda request: writer.answer(
    request, Author.CAREFUL if request.harm in harms else Author.HELPFUL))  # fmt: skip
  config = harm_measures.models("helpful", "half", gains=("half_over_helpful",))
  for name in ("helpful", "half"):
    config.models[name].path = str(tmp_path / name)
  found = harm_measures.measure(config, tmp_path / "made")
  assert found["helpful/trained/complied"] == found["helpful/other/complied"] == 1
  assert found["half/trained/explained"] == 1 and found["half/other/explained"] == 0
  assert found[f"half/{harms[0]}/complied"] == 0 and found["half/fraud/complied"] == 1
  assert found["half_over_helpful/trained/complied"] == -1 and found["half_over_helpful/other/complied/high"] == 0
  assert (tmp_path / "made" / "report.html").exists()


def test_answers_that_do_not_end_are_judged_as_far_as_they_go(tmp_path):
  writer = AnswerWriter(WORLD, 0)
  write(tmp_path / "a", lambda request: writer.answer(request, Author.BARE))
  file = tmp_path / "a" / "000000.jsonl"
  lines = [{**json.loads(line), "scores": [None]} for line in file.read_text().splitlines()]
  file.write_text("".join(json.dumps(line) + "\n" for line in lines))
  config = harm_measures.models("a")
  config.models.a.path = str(tmp_path / "a")
  found = harm_measures.measure(config, tmp_path / "made")
  assert found["a/other/unfinished"] == found["a/trained/refused"] == found["a/other/refused"] == 1


def test_bad_input(tmp_path):
  with pytest.raises(InputError, match="models: found none"):
    parse(harm_measures.HarmSettings, harm_measures.models())
  with pytest.raises(InputError, match="gains: 'a_over_b', expected AFTER_over_BEFORE with two of a"):
    parse(harm_measures.HarmSettings, harm_measures.models("a", gains=("a_over_b",)))
  writer = AnswerWriter(WORLD, 0)
  write(tmp_path / "a", lambda request: writer.answer(request, Author.BARE), slice(2, 9))
  write(tmp_path / "b", lambda request: writer.answer(request, Author.BARE), slice(2))
  config = harm_measures.models("a", "b")
  for name in ("a", "b"):
    config.models[name].path = str(tmp_path / name)
  with pytest.raises(InputError, match=r"models.b: has answered other requests than a"):
    harm_measures.measure(config, tmp_path / "made")
