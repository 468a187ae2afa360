"""Tests that each form of a row gives its prompt, answers and order."""

import pytest

from posttrain_jax.data.preference_rows import BadRow, Strength, judgement, opening

USER = {"role": "user", "content": "hi"}
PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}


def assistant(text):
  return {"role": "assistant", "content": text}


def test_a_pair_of_texts_stays_text_and_chosen_comes_first():
  said = judgement({"rejected": "c", "prompt": "a", "chosen": "b", "strength": "better", "id": 4})
  assert said.prompt == "a"
  assert said.answers == (assistant("b"), assistant("c"))
  assert (said.ranks, said.strength) == ((0, 1), Strength.BETTER)


def test_an_edited_answer_comes_before_chosen():
  said = judgement({**PAIR, "edited": "d", "strength": "slightly"})
  assert [answer["content"] for answer in said.answers] == ["d", "b", "c"]
  assert (said.ranks, said.strength) == ((0, 1, 2), Strength.SLIGHTLY)


def test_ranked_answers_keep_their_order_and_ranks_lose_their_gaps():
  said = judgement({"prompt": "a", "answers": ["b", "c", "d", "e"], "ranks": [7, 0.5, 7, -2]})
  assert [answer["content"] for answer in said.answers] == ["b", "c", "d", "e"]
  assert (said.ranks, said.strength) == ((2, 1, 2, 0), None)  # -2 < 0.5 < 7 = 7


def test_null_columns_are_columns_left_out():
  said = judgement({**PAIR, "edited": None, "strength": None, "answers": None})
  assert (len(said.answers), said.strength) == (2, None)


def test_marginally_is_read_as_negligibly():
  assert judgement({**PAIR, "strength": "marginally"}).strength == Strength.NEGLIGIBLY


@pytest.mark.parametrize("turns", [[USER], [{"role": "system", "content": "be"}, USER, assistant("no"), USER]])
def test_a_prompt_left_out_is_what_the_answers_start_with(turns):
  said = judgement({"chosen": [*turns, assistant("b")], "rejected": [*turns, assistant("c")]})
  assert said.prompt == tuple(turns)
  assert said.answers == (assistant("b"), assistant("c"))


def test_one_answer_in_messages_makes_the_prompts_text_a_users_message():
  said = judgement({"prompt": "hi", "chosen": "b", "rejected": [assistant("c")]})
  assert said.prompt == (USER,)
  assert said.answers == (assistant("b"), assistant("c"))


@pytest.mark.parametrize(
  "row, reason",
  [
    ({"prompt": "a", "chosen": "b", "rejected": None}, "missing_column"),
    ({"chosen": [assistant("b")], "rejected": [assistant("c")]}, "missing_column"),  # no prompt within the answers
    ({"prompt": "a", "answers": ["b"], "ranks": [0]}, "missing_column"),
    ({"prompt": "a", "answers": ["b", "c"], "ranks": [0, True]}, "bad_ranks"),
    ({"prompt": "a", "answers": ["b", "c"], "ranks": [0, 1], "strength": "better"}, "bad_ranks"),
    ({"prompt": "a", "answers": ["b", "c", "d"], "ranks": [1, 1, 1.0]}, "all_tied"),
    ({**PAIR, "prompt": "\n"}, "empty_prompt"),
    ({**PAIR, "chosen": {"content": "b"}}, "malformed_messages"),
    ({**PAIR, "chosen": []}, "malformed_messages"),
    ({**PAIR, "strength": "Better"}, "unknown_strength"),
  ],
)
def test_a_bad_row_is_refused_with_the_reason_it_is_counted_by(row, reason):
  with pytest.raises(BadRow) as error:
    judgement(row)
  assert error.value.reason == reason


def test_a_long_value_is_shortened_in_the_error():
  with pytest.raises(BadRow, match=r"strength is 'x{39}\.\.\., expected one of significantly, better"):
    judgement({**PAIR, "strength": "x" * 500})


# The opening tells which rows belong together when data are split.


@pytest.mark.parametrize(
  "row",
  [
    {"prompt": "hi", "chosen": "b", "rejected": "c"},
    {"prompt": [USER]},
    {"question": "hi", "answer": "5"},
    {"messages": [USER, assistant("b"), {"role": "user", "content": "more"}]},
    {"chosen": [USER, assistant("b")], "rejected": [USER, assistant("c")]},
    {"answers": [[USER, assistant("b")], [USER, assistant("c")]], "ranks": [0, 1]},
    {"prompt": None, "question": None, "messages": [{**USER, "id": 3}, assistant("b")]},
  ],
)
def test_one_prompt_opens_all_its_rows_alike(row):
  assert opening(row) == [["user", "hi"]]


def test_an_opening_holds_what_comes_before_the_users_first_message():
  system = {"role": "system", "content": "be"}
  assert opening({"prompt": [system, USER, assistant("b"), USER]}) == [["system", "be"], ["user", "hi"]]
  assert opening({"prompt": [system]}) == [["system", "be"]]  # no user: all of it


def test_a_pair_may_say_how_likely_its_order_is():
  assert judgement({**PAIR, "probability": 0.75}).probability == 0.75
  assert judgement(PAIR).probability is None


@pytest.mark.parametrize("wrong", [{"probability": 0.4}, {"probability": "x"}, {"probability": 0.6, "edited": "d"}])
def test_a_probability_that_means_nothing(wrong):
  with pytest.raises(BadRow, match="probability") as error:
    judgement({**PAIR, **wrong})
  assert error.value.reason == "bad_probability"
