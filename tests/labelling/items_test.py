import pytest

from posttrain_jax.data import prompts
from posttrain_jax.labelling import items
from posttrain_jax.labelling.items import RatingKind, read_items
from posttrain_jax.types import InputError


def read(kind, *rows, **options):
  return read_items(prompts.named_rows(rows, "rows"), kind, **options)


CHAT = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "q"}]


def said(text):
  return [{"role": "assistant", "content": text}]


def test_a_pair_of_a_file_of_preferences():
  row = {"prompt": "q", "chosen": "a", "rejected": "b", "chosen_from": "big", "rejected_from": "small", "kind": 3}
  ((item,), left_out) = read(RatingKind.PAIRS, row)
  assert (item.prompt, item.answers, item.models, left_out) == ((("user", "q"),), ("a", "b"), ("big", "small"), 0)
  assert item.columns == row and item.known is None
  assert item.with_text(1, "c") == "c"


def test_a_pair_of_generated_answers_of_two_models():
  ((item,), _) = read(RatingKind.PAIRS, {"prompt": "q", "answers": ["a", "b"], "models": ["one", "two"]})
  assert (item.answers, item.models) == (("a", "b"), ("one", "two"))


def test_messages_keep_their_form():
  ((item,), _) = read(RatingKind.PAIRS, {"prompt": CHAT, "chosen": said("a"), "rejected": said("b")})
  assert item.prompt == (("system", "Be short."), ("user", "q")) and item.answers == ("a", "b")
  assert item.with_text(0, "c") == said("c")
  ((item,), _) = read(RatingKind.PAIRS, {"chosen": [*CHAT, *said("a")], "rejected": [*CHAT, *said("b")]})
  assert item.prompt[-1] == ("user", "q") and item.with_text(1, "c") == [*CHAT, *said("c")]


def test_equal_answers_are_left_out_and_shown_once():
  found, left_out = read(
    RatingKind.RANKING,
    {"prompt": "q", "answers": ["a", "a"]},
    {"prompt": "q", "answers": ["a", "b", "a"], "models": [*"xyz"]},
  )
  assert left_out == 1
  assert found[0].answers == ("a", "b") and found[0].columns["models"] == ["x", "y"]
  with pytest.raises(InputError, match="no item is left of 1 rows"):
    read(RatingKind.PAIRS, {"prompt": "q", "chosen": "a", "rejected": "a"})


def test_answers_without_words_are_left_out():
  rows = [{"prompt": "q", "chosen": "a", "rejected": " \n"}, {"prompt": "q", "chosen": "a", "rejected": "b"}]
  found, left_out = read(RatingKind.PAIRS, *rows)
  assert (len(found), left_out) == (1, 1)
  ((item,), _) = read(RatingKind.RANKING, {"prompt": "q", "answers": ["", "a", "a ", "b"]})
  assert item.answers == ("a", "b") and item.columns["answers"] == ["a", "b"]
  rows = [{"prompt": "q", "completion": ""}, {"messages": [*CHAT, *said(" ")]}, {"prompt": "q", "completion": "a"}]
  assert read(RatingKind.ACCEPT, *rows)[1] == 2


def test_names_are_different_and_say_nothing():
  row = {"prompt": "q", "chosen": "a", "rejected": "b"}
  found, _ = read(RatingKind.PAIRS, row, row)
  checks, _ = read(RatingKind.PAIRS, row, are_checks=True)
  names = [item.name for item in [*found, *checks]]
  assert len(set(names)) == 3 and all(len(name) == 16 and int(name, 16) >= 0 for name in names)


@pytest.mark.parametrize(
  ("row", "prompt", "answers"),
  [
    ({"prompt": "q", "completion": "a"}, (("user", "q"),), ("a",)),
    ({"question": "q", "answer": "a"}, (("user", "q"),), ("a",)),
    ({"messages": [*CHAT, *said("a")]}, (("system", "Be short."), ("user", "q")), ("a",)),
    ({"prompt": CHAT, "completion": "a"}, (("system", "Be short."), ("user", "q")), ("a",)),
  ],
)
def test_demonstrations_to_accept(row, prompt, answers):
  ((item,), _) = read(RatingKind.ACCEPT, row)
  assert (item.prompt, item.answers) == (prompt, answers)


@pytest.mark.parametrize("row", [{"prompt": "q"}, {"question": "q"}, {"problem": "q"}, {"messages": CHAT[1:]}])
def test_prompts_to_answer(row):
  ((item,), _) = read(RatingKind.DEMONSTRATIONS, row)
  assert (item.prompt, item.answers) == ((("user", "q"),), ())


def test_calls_of_tools_are_shown():
  call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add"}}]}
  chat = [*CHAT, call, {"role": "tool", "content": "3"}]
  ((item,), _) = read(RatingKind.DEMONSTRATIONS, {"messages": chat})
  assert item.prompt[2] == ("assistant", '[{"function": {"name": "add"}}]')


@pytest.mark.parametrize(
  ("kind", "row", "known"),
  [
    (RatingKind.PAIRS, {"prompt": "q", "chosen": "a", "rejected": "b"}, {"better": 0}),
    (RatingKind.RANKING, {"prompt": "q", "answers": ["a", "b", "c"], "ranks": [7, 2, 2]}, {"ranks": [1, 0, 0]}),
    (RatingKind.ACCEPT, {"prompt": "q", "completion": "a", "accept": False}, {"accepted": False}),
  ],
)
def test_what_is_known_of_a_check(kind, row, known):
  ((item,), _) = read(kind, row, are_checks=True)
  assert item.known == known


@pytest.mark.parametrize(
  ("kind", "row", "are_checks", "message"),
  [
    (
      RatingKind.PAIRS,
      {"prompt": "q", "chosen": "a"},
      False,
      "rows, row 0: found the columns prompt, chosen, expected",
    ),
    (RatingKind.PAIRS, {"prompt": "", "chosen": "a", "rejected": "b"}, False, "row 0: prompt is '', expected text"),
    (RatingKind.PAIRS, {"prompt": "q", "answers": ["a", "b", "c"]}, False, "3 answers, expected two for --kind=pairs"),
    (RatingKind.PAIRS, {"prompt": "q", "answers": "ab"}, False, "answers is 'ab', expected a list"),
    (
      RatingKind.PAIRS,
      {"prompt": "q", "answers": ["a", "b"], "models": ["x"]},
      False,
      "expected the name of a model for each",
    ),
    (
      RatingKind.RANKING,
      {"prompt": "q", "answers": [str(i) for i in range(27)]},
      False,
      "27 answers, expected at most 26",
    ),
    (
      RatingKind.DEMONSTRATIONS,
      {"text": "q"},
      False,
      "found the columns text, expected messages or prompt or question",
    ),
    (RatingKind.DEMONSTRATIONS, {"prompt": 3}, False, "prompt is 3, expected text or a list of messages"),
    (RatingKind.DEMONSTRATIONS, {"messages": [{"role": "king", "content": "q"}]}, False, "role of message 0 is 'king'"),
    (RatingKind.ACCEPT, {"prompt": "q", "completion": 3}, False, "completion is 3, expected text"),
    (RatingKind.ACCEPT, {"prompt": "q"}, False, "expected 'prompt' and 'completion', or 'messages'"),
    (RatingKind.ACCEPT, {"messages": CHAT}, False, "messages do not end with an assistant's"),
    (RatingKind.ACCEPT, {"prompt": "q", "completion": "a"}, True, "accept is None, expected true or false"),
    (
      RatingKind.PAIRS,
      {"prompt": "q", "answers": ["a", "b"]},
      True,
      "found 'answers', expected 'chosen' and 'rejected'",
    ),
    (RatingKind.RANKING, {"prompt": "q", "answers": ["a", "b"]}, True, "ranks is None, expected a list of numbers"),
    (
      RatingKind.RANKING,
      {"prompt": "q", "answers": ["a", "a", "b"], "ranks": [0, 1, 2]},
      True,
      "two answers are equal or one is empty",
    ),
    (
      RatingKind.DEMONSTRATIONS,
      {"prompt": "q"},
      True,
      "--checks: no answer to check is known for --kind=demonstrations",
    ),
  ],
)
def test_bad_rows_are_one_line(kind, row, are_checks, message):
  with pytest.raises(InputError) as error:
    read(kind, row, are_checks=are_checks)
  assert message in str(error.value) and "\n" not in str(error.value)


def test_a_row_has_a_limit(monkeypatch):
  monkeypatch.setattr(items, "MOST_CHARACTERS", 10)
  read(RatingKind.PAIRS, {"prompt": "q" * 6, "chosen": "aa", "rejected": "bb"})
  with pytest.raises(InputError, match="row 0: 11 characters, expected at most 10"):
    read(RatingKind.PAIRS, {"prompt": "q" * 7, "chosen": "aa", "rejected": "bb"})
