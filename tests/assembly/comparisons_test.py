"""Tests how a run's comparisons are read, counted and refused."""

import json

import pytest

from configs import tiny_dpo
from posttrain_jax.assembly.comparisons import load_comparisons
from posttrain_jax.data import demonstrations
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.pipelines.dpo import DPOPreferences
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError
from tests.pipelines.small_offline import small

NO_ANSWERS = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"


def row(number, **changes):
  return {"prompt": f"{number}+2=", "chosen": " Answer: 3", "rejected": " Answer: 4", **changes}


@pytest.fixture
def load(tmp_path):
  def found(*rows, chat_template=None, **changes):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    changes = {"held_out": 0.0, "path": str(path) if rows else "", **changes}
    config = small(tiny_dpo, **{f"preferences.{name}": value for name, value in changes.items()})
    settings = parse(DPOPreferences, config.preferences, "preferences")
    return load_comparisons(settings, tiny_tokenizer(demonstrations.SYMBOLS, chat_template=chat_template))

  return found


def message(load, *rows, **changes):
  with pytest.raises(InputError) as error:
    load(*rows, **changes)
  assert "\n" not in str(error.value)
  return str(error.value)


def test_counts(load):
  data = load(*(row(n) for n in range(1, 7)), held_out=0.5)
  assert data.facts["data/comparisons"] == data.facts["data/pairs"] == len(data.train)
  assert data.facts["data/held_out"] == len(data.held_out) == 6 - len(data.train)
  assert 0 < len(data.train) < 6
  assert not {c.prompt for c in data.train} & {c.prompt for c in data.held_out}
  assert len(data.digests["preferences"]) == 64


def test_equal_answers(load):
  equal = row(2, rejected=" Answer: 3")
  assert ":2: answers 0 and 1 are equal" in message(load, row(1), equal)
  data = load(row(1), equal, row(3), equal, bad_rows="drop")
  assert data.facts["data/equal_answers"] == 2 and len(data.train) == 2


def test_dropped_rows_of_both_sides_are_counted(load):
  rows = [row(n, rejected=" Answer: 3") if n % 2 else row(n) for n in range(1, 9)]
  data = load(*rows, held_out=0.5, bad_rows="drop")
  assert data.facts["data/equal_answers"] == 4 == len(data.train) + len(data.held_out)


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({"strength": "hugely"}, "strength is 'hugely', expected one of significantly, better, slightly, negligibly"),
    ({"rejected": None}, "no 'rejected' among the columns prompt, chosen"),
    ({"prompt": None}, "no 'prompt' among the columns chosen, rejected"),
    ({"prompt": [{"content": "1+2="}]}, "message 0 of prompt is {'content': '1+2='}, expected a role"),
    ({"chosen": [{"role": "user", "content": "3"}]}, "expected an assistant's message"),
    ({"chosen": "x"}, "no token for 'x'"),
  ],
)
def test_rows_that_are_no_comparison(load, changes, expected):
  found = message(load, row(1), row(2, **changes))
  assert ":2: " in found and expected in found
  assert len(load(row(1), row(2, **changes), bad_rows="drop").train) == 1


def test_over_long_pairs(load):
  prompt, answer = row(2, prompt="1+2+3+4+5+6+7+8+9="), row(3, chosen="+1" * 24)  # and an end token
  assert ":2: prompt of 10 tokens" in message(load, row(1), prompt, too_long="error")
  assert ":2: " in message(load, row(1), answer, too_long="error")
  data = load(row(1), prompt, answer, too_long="drop")
  assert len(data.train) == 1 and data.facts["data/prompt_too_long"] == data.facts["data/answer_too_long"] == 1
  data = load(row(1), prompt, answer, too_long="cut_prompt")
  assert len(data.train) == 2 and data.facts["data/prompt_cut"] == data.facts["data/answer_too_long"] == 1
  tokenizer = tiny_tokenizer(demonstrations.SYMBOLS)
  assert tokenizer.decode(data.train[1].prompt) == "+3+4+5+6+7+8+9="
  found = message(load, prompt, answer, too_long="drop")
  assert "no comparison is left of 2 rows (answer_too_long: 1, prompt_too_long: 1)" in found


def test_strengths(load):
  rows = [row(1, strength="better"), row(2, strength="slightly"), row(3)]
  data = load(*rows, strengths=("better",))
  assert len(data.train) == 1 and data.facts["data/strength_slightly"] == data.facts["data/strength_missing"] == 1
  assert "no comparison is left" in message(load, *rows, strengths=("significantly",))
  assert "preferences.strengths: 'hugely', expected one of" in message(load, *rows, strengths=("hugely",))


def test_chats(load):
  assert "chat: the tokeniser has no chat template" in message(load, row(1), chat=True)
  # A template that does not write what the assistant says is no fault of a row: it is not dropped either.
  for bad_rows in ("error", "drop"):
    found = message(load, row(1), chat=True, chat_template=NO_ANSWERS, bad_rows=bad_rows)
    assert "rows.jsonl:1: chat template" in found


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({"held_out": 1.0}, "preferences.held_out: 1.0, expected a share"),
    ({"held_out": 1e-12}, "leaves 2 rows to train on and 0 held out"),
    ({"held_out": 1 - 1e-12}, "leaves 0 rows to train on and 2 held out"),
    ({"bad_rows": "skip"}, "preferences.bad_rows: 'skip', expected one of error, drop"),
    ({"too_long": "cut"}, "preferences.too_long: 'cut', expected one of error, drop, cut_prompt"),
    ({"max_answer_length": 0}, "expected at least 1"),
    ({"limit": -1}, "preferences.limit: -1"),
    ({"path": "no/such.jsonl"}, "no/such.jsonl"),
    ({"template": "Q"}, "template: 'Q' has no '{prompt}'"),
  ],
)
def test_settings_without_a_meaning(load, changes, expected):
  assert expected in message(load, row(1), row(2), **changes)


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({"form": "triple"}, "preferences.form: 'triple', expected one of pair, edited, ranking, single"),
    ({"noise": 2.0}, "noise is 2.0, expected a probability"),
    ({"answers": 1}, "1 answers for the form pair"),
  ],
)
def test_settings_of_the_procedural_grader(load, changes, expected):
  assert expected in message(load, **changes)


def test_prompt_and_answer_longer_than_the_context_are_refused(load):
  data = load(row(1), row(2, rejected=" Answer: 45"))
  sizes = dict(vocab_size=40, num_layers=1, embed_dim=8, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=4)
  longest = max(len(each.prompt) + len(answer) for each in data.train for answer in each.answers)
  data.check_context(TransformerConfig(**sizes, max_position_embeddings=longest))
  with pytest.raises(InputError, match=rf"rows\.jsonl:2: prompt and answer: {longest} tokens are more than"):
    data.check_context(TransformerConfig(**sizes, max_position_embeddings=longest - 1))


def thumb(number, label, **changes):
  return {"prompt": f"{number}+2=", "completion": " Answer: 3", "label": label, **changes}


def test_single_answers_are_read_from_several_files_and_counted(load, tmp_path):
  for name, label, numbers in (("liked", True, range(1, 6)), ("disliked", False, range(4, 10))):
    rows = [thumb(n, label) for n in numbers] + [thumb(3, label, completion=" ")]
    (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  path = f"{tmp_path}/liked.jsonl,{tmp_path}/disliked.jsonl"
  data = load(path=path, form="single", bad_rows="drop")
  assert [each.desirable for each in data.train] == [True] * 5 + [False] * 6
  assert data.train[5].source.endswith("disliked.jsonl:1") and len(data.train[5].answers) == 1
  facts = {"data/examples": 11, "data/desirable": 5, "data/undesirable": 6, "data/held_out": 0, "data/empty_answer": 2}
  assert data.facts == facts
  held = load(path=path, form="single", bad_rows="drop", held_out=0.5)
  assert len(held.train) + len(held.held_out) == 11
  assert not {each.prompt for each in held.train} & {each.prompt for each in held.held_out}  # 4 and 5 are in both files


@pytest.mark.parametrize(
  ("rows", "changes", "expected"),
  [
    ([thumb(1, True), row(2)], {}, ":2: no 'completion' and no 'label' among the columns prompt, chosen, rejected"),
    ([thumb(1, True), thumb(2, None)], {}, ":2: no 'label' among the columns prompt, completion"),
    ([thumb(1, True), thumb(2, "bad")], {}, ":2: label is 'bad', expected true or false"),
    ([thumb(1, True), thumb(2, False, completion="")], {}, ":2: answer 0 is empty"),
    ([thumb(1, True), thumb(2, True)], {}, "rows.jsonl: to train on: 2 good and 0 bad answers, expected some of each"),
    ([thumb(1, False), thumb(2, False)], {}, "rows.jsonl: to train on: 0 good and 2 bad answers"),
    ([thumb(1, True), thumb(2, False)], {"limit": 1}, "to train on: 1 good and 0 bad answers"),
    (
      [thumb(n, n < 5) for n in range(1, 10)],
      {"held_out": 0.1},
      "held out (preferences.held_out=0.1): 0 good and 1 bad answers, expected",
    ),
    ([thumb(1, True), thumb(2, False)], {"form": "pair"}, "single answers with a label need preferences.form=single"),
    (
      [thumb(1, True), thumb(2, False)],
      {"form": "ranking", "bad_rows": "drop"},
      "no comparison is left of 2 rows (single_answer: 2)",
    ),
  ],
)
def test_single_answers_that_nothing_can_learn_from(load, rows, changes, expected):
  assert expected in message(load, *rows, **{"form": "single", **changes})
