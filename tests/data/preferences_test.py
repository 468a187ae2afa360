"""Tests how rows become comparisons.

Some rows are read, some refused, counted or cut, and some held out.
"""

import gzip
import hashlib
import json
import pathlib
import random

import numpy as np
import pytest

from posttrain_jax.data import preferences
from posttrain_jax.data.preferences import BadRows, Comparison, Margins, Strength, TooLongComparison
from posttrain_jax.data.prompts import PromptFormat, Row, named_rows
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.types import InputError

SHARED = pathlib.Path(__file__).resolve().parents[2].parent / "shared"

TEMPLATE = (
  "{% for m in messages %}{{ m.role[0] + ':' + m.content + ';' }}{% endfor %}{{ 'a:' if add_generation_prompt }}"
)
LETTERS = "abcdefghijklmnopqrstuvwxyz:;?! "
TOKENIZER = tiny_tokenizer(LETTERS, chat_template=TEMPLATE)
USER = {"role": "user", "content": "hi"}


def read(*rows, tokenizer=TOKENIZER, **options):
  options = {"prompt_format": PromptFormat(), "max_prompt_length": 99, "max_answer_length": 99} | options
  return preferences.read_comparisons(named_rows(rows, "data"), tokenizer, **options)


def read_one(row, **options):
  (comparison,), counts = read(row, **options)
  assert counts == {}
  return comparison


def shown(comparison, tokenizer=TOKENIZER):
  return tokenizer.decode(comparison.prompt), [tokenizer.decode(answer) for answer in comparison.answers]


def assistant(text):
  return {"role": "assistant", "content": text}


def pair(prompt=(5, 6), answers=((7, 1), (8, 1)), ranks=(0, 1), **more):
  return Comparison(tuple(prompt), tuple(np.array(answer, np.int32) for answer in answers), ranks, **more)


# What is read.


def test_text_rows_end_with_the_end_token_and_chosen_comes_first():
  comparison = read_one({"rejected": "c", "prompt": "a", "chosen": "bb", "strength": "slightly", "id": 4})
  assert shown(comparison) == ("a", ["bb<eos>", "c<eos>"])
  assert (comparison.ranks, comparison.strength, comparison.ends) == ((0, 1), Strength.SLIGHTLY, (1, 1))
  assert (comparison.source, comparison.row["id"]) == ("data, row 0", 4)
  assert all(answer.dtype == np.int32 for answer in comparison.answers)


@pytest.mark.parametrize("empty", ["", " ", "<eos>", "<eos> <eos>", [assistant("")]])
@pytest.mark.parametrize("which", ["chosen", "rejected"])
def test_an_answer_of_nothing_but_its_end_is_refused_or_counted(which, empty):
  row = {**GOOD, which: empty}
  with pytest.raises(InputError, match=r"^data, row 1: answer [01] is empty"):
    read(GOOD, row)
  kept, counts = read(GOOD, row, bad_rows=BadRows.DROP)
  assert (len(kept), counts) == (1, {"empty_answer": 1})


def test_an_end_token_that_an_answer_has_already_is_not_written_twice():
  row = {"prompt": "a", "chosen": "b<eos>", "rejected": "c<eos> "}
  assert shown(read_one(row)) == ("a", ["b<eos>", "c<eos>"])


def test_edited_is_best_and_the_strength_stays_with_chosen_over_rejected():
  row = {"prompt": "a", "chosen": "b", "rejected": "c", "edited": "d", "strength": "significantly"}
  comparison = read_one(row)
  assert shown(comparison)[1] == ["d<eos>", "b<eos>", "c<eos>"]
  assert comparison.ranks == (0, 1, 2)
  assert comparison.strength_of(1, 2) == Strength.SIGNIFICANTLY
  assert comparison.strength_of(0, 1) is comparison.strength_of(0, 2) is comparison.strength_of(2, 1) is None


def test_ranks_may_be_any_numbers_and_ties_beat_none():
  comparison = read_one({"prompt": "a", "answers": ["b", "c", "d", "e"], "ranks": [7, 0.5, 7, -2]})
  assert comparison.ranks == (2, 1, 2, 0)
  assert comparison.beaten() == [(1, 0), (1, 2), (3, 0), (3, 1), (3, 2)]


def test_equal_answers_may_tie():
  assert read_one({"prompt": "a", "answers": ["b", "b", "c"], "ranks": [1, 1, 2]}).ranks == (0, 0, 1)


CONVERSATIONS = [
  {"prompt": [USER], "chosen": "b", "rejected": "c"},
  {"prompt": [USER], "chosen": [assistant("b")], "rejected": [assistant("c")]},
  {"prompt": [USER], "chosen": [USER, assistant("b")], "rejected": [USER, assistant("c")]},
  {"chosen": [USER, assistant("b")], "rejected": [USER, assistant("c")]},
  {"prompt": "hi", "chosen": [assistant("b")], "rejected": [USER, assistant("c")]},
  {"prompt": [USER], "answers": ["b", [assistant("c")]], "ranks": [0, 1]},
  {"answers": [[USER, assistant("b")], [USER, assistant("c")]], "ranks": [0, 1]},
]


@pytest.mark.parametrize("row", CONVERSATIONS)
def test_all_forms_of_a_conversation_are_the_same(row):
  comparison = read_one(row)
  assert shown(comparison) == ("u:hi;a:", ["b;", "c;"])
  assert comparison.ends == (1, 1)


# What is refused or dropped.

GOOD = {"prompt": "a", "chosen": "b", "rejected": "c"}
BAD = {
  "equal": ({**GOOD, "rejected": "b"}, "equal_answers", "answers 0 and 1 are equal"),
  "equal_as_tokens": ({**GOOD, "prompt": [USER], "chosen": " b", "rejected": "b"}, "equal_answers", "are equal"),
  "equal_ranked": ({"prompt": "a", "answers": ["b", "c", "b"], "ranks": [0, 1, 1]}, "equal_answers", "answers 0 and 2"),
  "edited_unchanged": ({**GOOD, "edited": "b"}, "equal_answers", "answers 0 and 1 are equal"),
  "strength": ({**GOOD, "strength": "hugely"}, "unknown_strength", "strength is 'hugely', expected one of signif"),
  "no_rejected": ({"prompt": "a", "chosen": "b"}, "missing_column", "no 'rejected' among the columns prompt, chosen"),
  "no_prompt": ({"chosen": "b", "rejected": "c"}, "missing_column", "no 'prompt' among the columns chosen, rejected"),
  "number": ({**GOOD, "chosen": 3}, "malformed_messages", "chosen is 3, expected text or a list"),
  "no_role": ({**GOOD, "prompt": [{"content": "hi"}]}, "malformed_messages", "message 0 of prompt is .* a role of"),
  "bad_role": (
    {**GOOD, "prompt": [{"role": "bot", "content": "x"}, USER]},
    "malformed_messages",
    "message 0 of prompt",
  ),
  "no_content": ({**GOOD, "prompt": [{"role": "system"}, USER]}, "malformed_messages", "content of message 0"),
  "ends_wrong": (
    {**GOOD, "prompt": [USER, {"role": "system", "content": "b"}]},
    "malformed_messages",
    "of role 'system', expected 'user'",
  ),
  "user_answers": (
    {**GOOD, "prompt": [USER], "chosen": [USER]},
    "malformed_messages",
    "expected an assistant's message",
  ),
  "other_prompt": (
    {"chosen": [USER, assistant("b")], "rejected": [{**USER, "content": "ho"}, assistant("c")]},
    "malformed_messages",
    "the answers differ before their last message",
  ),
  "not_the_prompt": (
    {**GOOD, "prompt": [{**USER, "content": "ho"}], "chosen": [USER, assistant("b")]},
    "malformed_messages",
    "chosen has messages before its last that are not the prompt's",
  ),
  "blank_prompt": ({**GOOD, "prompt": " "}, "empty_prompt", "prompt is ' ', expected text"),
  "no_messages": ({**GOOD, "prompt": []}, "empty_prompt", "expected messages"),
  "blank_message": ({**GOOD, "prompt": [{**USER, "content": ""}]}, "empty_prompt", "prompt ends with ''"),
  "all_tied": ({"prompt": "a", "answers": ["b", "c"], "ranks": [1, 1]}, "all_tied", "all 2 ranks are 1"),
  "few_ranks": ({"prompt": "a", "answers": ["b", "c"], "ranks": [1]}, "bad_ranks", "1 ranks of 2 answers"),
  "nan": ({"prompt": "a", "answers": ["b", "c"], "ranks": [1, float("nan")]}, "bad_ranks", "a list of numbers"),
  "no_answers": (
    {"prompt": "a", "ranks": [1, 2]},
    "missing_column",
    "answers is None, expected a list of at least two",
  ),
  "both_forms": (
    {**GOOD, "answers": ["b", "c"], "ranks": [1, 2]},
    "bad_ranks",
    "'chosen' next to 'answers' and 'ranks'",
  ),
  "unknown_letter": ({**GOOD, "chosen": "B"}, "cannot_be_encoded", "no token for 'B'"),
}


@pytest.mark.parametrize("row, reason, message", BAD.values(), ids=BAD)
def test_bad_rows_are_an_error_that_names_the_row_or_counted(row, reason, message):
  # A template that trims, as Llama 3's does: " b" and "b" are the same tokens.
  tokenizer = tiny_tokenizer(LETTERS, chat_template=TEMPLATE.replace("m.content", "(m.content | trim)"))
  with pytest.raises(InputError, match=f"^data, row 1: .*{message}"):
    read(GOOD, row, tokenizer=tokenizer)
  kept, counts = read(GOOD, row, GOOD, tokenizer=tokenizer, bad_rows=BadRows.DROP)
  assert ([c.source for c in kept], counts) == (["data, row 0", "data, row 2"], {reason: 1})


def test_nothing_left_is_an_error_that_says_why():
  bad = {**GOOD, "rejected": "b"}
  with pytest.raises(InputError, match=r"no comparison is left of 2 rows \(equal_answers: 2\)"):
    read(bad, bad, bad_rows=BadRows.DROP)
  with pytest.raises(InputError, match="no rows"):
    read()


@pytest.mark.parametrize(
  "template, message",
  [
    (None, "the tokeniser has no chat template"),
    ("{{ messages[0].content }}", "not written one by one in a loop"),
    ("{% for m in messages %}{% if m.role == 'user' %}u:{{ m.content }};{% endif %}{% endfor %}", "chat template"),
    ("{% for m in messages %}{{ m.role[0] + ':;' }}{% endfor %}{{ 'a:' if add_generation_prompt }}", "leaves out what"),
  ],
)
def test_a_template_that_writes_no_assistant_turn_is_an_error_even_where_bad_rows_are_dropped(template, message):
  tokenizer = tiny_tokenizer(LETTERS, chat_template=template)
  with pytest.raises(InputError, match=message):
    read(GOOD, {**GOOD, "prompt": [USER]}, tokenizer=tokenizer, bad_rows=BadRows.DROP)


def test_a_system_message_needs_a_chat():
  with pytest.raises(InputError, match="a system message needs a chat"):
    read(GOOD, prompt_format=PromptFormat(system="be"), bad_rows=BadRows.DROP)


def test_only_the_strengths_asked_for_are_kept():
  rows = [{**GOOD, "strength": strength} for strength in (*Strength, None)]
  kept, counts = read(*rows, strengths=[Strength.SIGNIFICANTLY, Strength.BETTER])
  assert [c.strength for c in kept] == ["significantly", "better"]
  assert counts == {"strength_slightly": 1, "strength_negligibly": 1, "strength_missing": 1}


# Limits.


def test_over_long_comparisons_are_an_error_or_counted():
  limits = {"max_prompt_length": 3, "max_answer_length": 4}  # the end token is the fourth
  fits, long_prompt, long_answer = (
    GOOD | more for more in ({"chosen": "bbb"}, {"prompt": "abcd"}, {"rejected": "cccc"})
  )
  with pytest.raises(InputError, match="row 1: prompt of 4 tokens and answers of up to 2; the limits are 3 and 4"):
    read(fits, long_prompt, **limits)
  kept, counts = read(fits, long_prompt, long_answer, **limits, too_long=TooLongComparison.DROP)
  assert (len(kept), counts) == (1, {"prompt_too_long": 1, "answer_too_long": 1})


def test_a_cut_prompt_keeps_its_end_and_answers_are_never_cut():
  limits = {"max_prompt_length": 3, "max_answer_length": 4, "too_long": TooLongComparison.CUT_PROMPT}
  kept, counts = read({**GOOD, "prompt": "abcdef"}, {**GOOD, "prompt": "abcdef", "rejected": "cccc"}, GOOD, **limits)
  assert [shown(c) for c in kept] == [("def", ["b<eos>", "c<eos>"]), ("a", ["b<eos>", "c<eos>"])]
  assert counts == {"prompt_cut": 1, "answer_too_long": 1}


@pytest.mark.parametrize("limit, expected", [(4, "?def"), (2, "?f"), (1, "?")])
def test_a_cut_prompt_keeps_the_token_that_starts_it(limit, expected):
  tokenizer = Tokenizer(TOKENIZER.backend, bos_id=TOKENIZER.encode("?")[0], eos_id=1)
  options = {"max_prompt_length": limit, "too_long": TooLongComparison.CUT_PROMPT, "tokenizer": tokenizer}
  (comparison,), _ = read({**GOOD, "prompt": "?abcdef"}, **options)
  assert tokenizer.decode(comparison.prompt) == expected
  (plain,), _ = read({**GOOD, "prompt": "abcdef"}, **options)
  assert tokenizer.decode(plain.prompt) == "abcdef"[-limit:]


# Splits.


def sides(rows, held_out=0.3):
  train, held = preferences.split_by_prompt(named_rows(rows, "data"), held_out=held_out)
  return [row.columns for row in train], [row.columns for row in held]


def test_a_prompt_is_on_one_side_in_whatever_order_and_company():
  rows = [{"prompt": f"p{i % 40}", "chosen": f"c{i}", "rejected": "r"} for i in range(80)]
  train, held = sides(rows)
  assert len(train) + len(held) == 80 and 10 < len(held) < 40
  assert not {row["prompt"] for row in train} & {row["prompt"] for row in held}
  assert train == [row for row in rows if row in train]  # in the order they came
  mixed = random.Random(0).sample(rows, 50)
  assert sides(mixed) == ([row for row in mixed if row in train], [row for row in mixed if row in held])
  assert all(row in sides(rows, 0.5)[1] for row in held)


def test_all_ways_to_write_a_prompt_are_on_one_side():
  train = []
  for i in range(40):
    user = {"role": "user", "content": f"p{i}"}
    forms = [
      {"prompt": f"p{i}"},
      {"prompt": [user]},
      {"chosen": [user, assistant("b")], "rejected": [user, assistant("c")]},
      {"answers": [[user, assistant("b")], [user, assistant("c")]], "ranks": [0, 1]},
      {"messages": [user, assistant("b")]},  # a demonstration
      {"prompt": [user, assistant("b"), user]},  # the conversation goes on after an answer that is compared above
    ]
    train.append(len(sides(forms, 0.5)[0]))
  assert set(train) == {0, 6}


def test_a_share_is_of_the_hashes_fraction():
  # The hash's first byte as a fraction: the whole hash lies within the next 256th.
  fraction = hashlib.sha256(b'[["user", "p0"]]').digest()[0] / 256
  assert sides([{"prompt": "p0"}], fraction - 1e-6) == ([{"prompt": "p0"}], [])
  assert sides([{"prompt": "p0"}], fraction + 1 / 256) == ([], [{"prompt": "p0"}])


def test_hh_harmless_is_read_and_no_conversation_is_on_both_sides():
  path = SHARED / "data" / "hh_harmless_test.jsonl.gz"
  if not path.exists():
    pytest.skip(f"the data set is not here: {path}")
  rows = [
    Row(json.loads(line), f"{path}:{n}") for n, line in enumerate(gzip.decompress(path.read_bytes()).splitlines(), 1)
  ]
  train, held = preferences.split_by_prompt(rows, held_out=0.2)
  assert 0.15 < len(held) / len(rows) < 0.25
  prompts = [{json.dumps(row.columns["prompt"]) for row in part} for part in (train, held)]
  for row in [*train, *held]:
    turns = row.columns["prompt"]
    starts = {json.dumps(turns[:n]) for n in range(1, len(turns) + 1)}
    assert not (starts & prompts[0] and starts & prompts[1])


# Pairs.


def test_pairs_are_all_wins_the_winner_first():
  made = preferences.pairs(
    [
      pair(answers=((7,), (8,), (9,)), ranks=(1, 0, 1), source="s", row={"id": 3}, ends=(1, 0, 1)),
      pair(answers=((2,), (3,), (4,)), ranks=(0, 1, 2), strength=Strength.BETTER),
    ]
  )
  assert [[a.tolist() for a in c.answers] for c in made] == [
    [[8], [7]], [[8], [9]], [[2], [3]], [[2], [4]], [[3], [4]]
  ]  # fmt: skip
  assert [c.strength for c in made] == [None, None, None, None, Strength.BETTER]
  assert [(c.source, c.row, c.ends) for c in made[:2]] == [("s", {"id": 3}, (0, 1))] * 2
  assert all(c.ranks == (0, 1) for c in made)


def test_margins_by_strength():
  assert [Margins.SMALL.of(s) for s in Strength] == [1, 2 / 3, 1 / 3, 0]
  assert [Margins.LARGE.of(s) for s in Strength] == [3, 2, 1, 0]
  assert [Margins.NONE.of(s) for s in Strength] == [0, 0, 0, 0]
