import gzip
import hashlib
import json
import pathlib

import pytest

from posttrain_jax.data import chat, prompts
from posttrain_jax.data.prompts import OverLimit, PromptFormat, Row
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.types import InputError

SHARED = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "data"
TEMPLATE = (
  "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
)
TOKENIZER = tiny_tokenizer("abcdefghijklmnopqrstuvwxyz0123456789 +=?:;{}\n\u2028", chat_template=TEMPLATE)


def write(tmp_path, *lines, name="rows.jsonl"):
  path = tmp_path / name
  content = "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
  path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
  return path


def make(path, **arguments):
  return prompts.make_prompts(
    prompts.read_jsonl(path), TOKENIZER, max_length=arguments.pop("max_length", 99), **arguments
  )


def texts(made):
  return [TOKENIZER.decode(prompt.tokens) for prompt in made]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_prompts_keep_all_columns_and_their_positions(tmp_path, name):
  rows = [{"prompt": "1+1=", "answer": "2", "level": 1}, {"prompt": "2+2=", "answer": 4}]
  made, dropped = make(write(tmp_path, *rows, name=name))
  assert texts(made) == ["1+1=", "2+2="]
  assert [dict(prompt.row) for prompt in made] == rows
  assert [prompt.index for prompt in made] == [0, 1]
  assert dropped == 0


def test_answers_may_be_left_out_where_they_are_not_required(tmp_path):
  path = write(tmp_path, {"prompt": "1+1="}, {"prompt": "1+1=", "final": [1]})
  made, _ = make(path, answer_required=False)
  assert [dict(prompt.row) for prompt in made] == [{"prompt": "1+1="}, {"prompt": "1+1=", "final": [1], "answer": [1]}]
  assert [prompt.source for prompt in made] == [f"{path}:1", f"{path}:2"]
  with pytest.raises(InputError, match=r"rows\.jsonl:1: no answer"):
    make(path)


def test_lines_end_at_newlines_alone_and_blank_lines_are_no_rows(tmp_path):
  path = write(tmp_path, {"prompt": "a\u2028b", "answer": "1"}, "", "  ", {"prompt": "b", "answer": "2"}, "")
  assert [row.source for row in prompts.read_jsonl(path)] == [f"{path}:1", f"{path}:4"]
  assert texts(make(path)[0]) == ["a\u2028b", "b"]


def test_messages_go_through_the_chat_template(tmp_path):
  messages = [
    {"role": "user", "content": "1+1"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "why"},
  ]
  path = write(tmp_path, {"messages": messages, "answer": "x"})
  made, _ = make(path, prompt_format=PromptFormat(template="{prompt}?", system="be brief"))
  assert texts(made) == ["s:be brief;u:1+1;a:2;u:why?;a:"]
  assert made[0].row["messages"] == messages  # the row is as it was
  assert list(made[0].tokens) == chat.encode_prompt(
    [{"role": "system", "content": "be brief"}, *messages[:2], {"role": "user", "content": "why?"}], TOKENIZER
  )


def test_a_turn_that_the_prompt_begins_is_gone_on_with(tmp_path):
  messages = [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "it is "}]
  path = write(tmp_path, {"messages": messages, "answer": "x"})
  assert texts(make(path, prompt_format=PromptFormat(template="q {prompt}"))[0]) == ["u:q 1+1;a:it is "]
  for bad in ([messages[1]], [messages[0], {**messages[1], "tool_calls": [{"function": {"name": "f"}}]}]):
    with pytest.raises(InputError, match=r"rows\.jsonl:1: chat: the assistant's turn at the end has"):
      make(write(tmp_path, {"messages": bad, "answer": "x"}))


def test_tools_and_parts_and_variables(tmp_path):
  template = "{% for t in tools or [] %}{{ t.name }};{% endfor %}{{ mood or '' }}" + TEMPLATE
  tokenizer = tiny_tokenizer("abcdefghijklmnopqrstuvwxyz:; ", chat_template=template)
  content = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
  row = {"messages": [{"role": "user", "content": content}], "answer": "x", "tools": [{"name": "add"}]}

  def read(row, **fields):
    (prompt,), _ = prompts.make_prompts(
      [prompts.Row(row, "d")], tokenizer, max_length=99, prompt_format=PromptFormat(**fields)
    )
    return tokenizer.decode(prompt.tokens)

  assert read(row, template="oh {prompt}", chat_arguments={"mood": "m"}) == "add;mu:oh hi;a:"
  assert read({**row, "messages": None, "prompt": "hi"}, chat=True) == "add;u:hi;a:"
  with pytest.raises(InputError, match="d: tools need a chat"):
    read({**row, "messages": None, "prompt": "hi"})


def test_text_with_a_template_and_as_chat(tmp_path):
  path = write(tmp_path, {"prompt": "{0}+{prompt}", "answer": "x"})
  plain, _ = make(path, prompt_format=PromptFormat(template="{prompt}\n{x}?"))
  assert texts(plain) == ["{0}+{prompt}\n{x}?"]  # braces of prompt and template stay as they are
  as_chat, _ = make(path, prompt_format=PromptFormat(template="q {prompt}", chat=True, system="s"))
  assert texts(as_chat) == ["s:s;u:q {0}+{prompt};a:"]


def test_usual_fields_are_found_and_named_ones_go_before_them(tmp_path):
  path = write(
    tmp_path,
    {"question": "1+1?", "answer": "one and one\n#### 2", "final": "2"},
    {"problem": "2+2?", "answer": "4", "hint": "b", "result": 5},
  )
  made, _ = make(path)
  assert texts(made) == ["1+1?", "2+2?"]
  assert [prompt.row["answer"] for prompt in made] == ["2", "4"]
  rows = prompts.read_jsonl(path)[1:]
  named, _ = prompts.make_prompts(rows, TOKENIZER, max_length=9, prompt_field="hint", answer_field="result")
  assert (texts(named), named[0].row["answer"]) == (["b"], 5)


def test_prompts_over_the_limit_are_refused_or_dropped_and_counted(tmp_path):
  path = write(tmp_path, {"prompt": "abcd", "answer": "1"}, {"prompt": "abc", "answer": "2"})
  with pytest.raises(InputError, match=r"rows.jsonl:1: prompt of 4 tokens, the limit is 3"):
    make(path, max_length=3)
  made, dropped = make(path, max_length=3, over_limit=OverLimit.DROP)
  assert dropped == 1
  assert [prompt.index for prompt in made] == [1]  # not renumbered: the index is part of every draw's key
  with pytest.raises(InputError, match=r"rows.jsonl: all 2 prompts are over the limit of 2 tokens"):
    make(path, max_length=2, over_limit=OverLimit.DROP)


GOOD = {"prompt": "a", "answer": "1"}


@pytest.mark.parametrize(
  "line, message",
  [
    ('{"prompt": "a", ', "malformed JSON"),
    ('{"prompt": "\\ud800", "answer": "1"}', "malformed JSON: .* surrogates not allowed"),
    ('{"prompt": "a", "answer": 1' + "0" * 5000 + "}", "malformed JSON: Exceeds the limit"),
    ('["a"]', "found a JSON list, expected an object"),
    ({"text": "a", "answer": "1"}, "no prompt: found columns text, answer; expected 'messages' or 'prompt' or"),
    ({"prompt": "a"}, "no answer: found columns prompt; expected 'final' or 'answer'"),
    ({"prompt": "a", "answer": None}, "no answer: found columns"),
    ({"prompt": 3, "answer": "1"}, "prompt is 3, expected text or a list of messages"),
    ({"prompt": "", "answer": "1"}, "prompt is '', expected text"),
    ({"messages": [], "answer": "1"}, r"messages is \[\], expected"),
    ({"messages": ["a"], "answer": "1"}, r"messages is \['a'\], expected"),
    ({"messages": [{"role": "user"}], "answer": "1"}, "message"),
    ({"prompt": "a", "answer": ["1"]}, r"answer is \['1'\], expected text or a number"),
    ({"prompt": "a", "answer": True}, "answer is True, expected text or a number"),
    ({"prompt": "a", "answer": " "}, "answer is ' ', expected text or a number"),
    ('{"prompt": "a", "answer": NaN}', "answer is nan, expected text or a number"),
    ({"prompt": "aÄ", "answer": "1"}, "no token for"),
  ],
)
def test_bad_rows_are_refused_with_file_and_line(tmp_path, line, message):
  path = write(tmp_path, GOOD, line)
  with pytest.raises(InputError, match=message) as raised:
    make(path)
  assert str(raised.value).startswith(f"{path}:2: ") and "\n" not in str(raised.value)


def test_a_named_field_that_is_missing_is_refused(tmp_path):
  path = write(tmp_path, GOOD)
  with pytest.raises(InputError, match=r":1: no prompt: found columns prompt, answer; expected 'query'$"):
    make(path, prompt_field="query")


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_files_without_rows_are_refused(tmp_path, content):
  (tmp_path / "empty.jsonl").write_bytes(content)
  with pytest.raises(InputError, match=r"empty.jsonl: no rows$"):
    prompts.read_jsonl(tmp_path / "empty.jsonl")


def test_files_that_cannot_be_read_are_refused(tmp_path):
  with pytest.raises(InputError, match=r"none.jsonl: no such file$"):
    prompts.read_jsonl(tmp_path / "none.jsonl")
  for name, content in {
    "text.jsonl.gz": b"plain text",
    "cut.jsonl.gz": gzip.compress(b"{}" * 99)[:20],
    "latin.jsonl": "ä".encode("latin-1"),
  }.items():
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: cannot be read"):
      prompts.read_jsonl(tmp_path / name)
  with pytest.raises(InputError, match="is a directory, expected a file"):
    prompts.read_jsonl(tmp_path)


def test_a_system_message_is_for_chats_that_have_none():
  user, own = {"role": "user", "content": "a"}, {"role": "system", "content": "own"}
  ask = PromptFormat("({prompt})", system="be").ask
  asked = {"role": "user", "content": "(a)"}
  assert ask([user]) == [{"role": "system", "content": "be"}, asked]
  assert ask([own, user]) == [own, asked]
  assert PromptFormat("({prompt})", chat=True, system="be").ask("a") == ask([user])
  assert PromptFormat("({prompt})").ask("a") == "(a)"


def test_no_rows_and_templates_without_a_place_are_refused():
  with pytest.raises(InputError, match="prompts: no rows"):
    prompts.make_prompts([], TOKENIZER, max_length=9)
  with pytest.raises(InputError, match=r"has no '\{prompt\}'"):
    PromptFormat(template="prompt?")
  with pytest.raises(InputError, match="f:1: a system message needs a chat"):
    prompts.make_prompts([Row(GOOD, "f:1")], TOKENIZER, max_length=9, prompt_format=PromptFormat(system="s"))


@pytest.mark.parametrize("template", ["user : {prompt} assistant :", "Question: {prompt}", "{prompt}\nAnswer:"])
def test_a_prompt_that_is_in_the_template_already_is_refused(template):
  form = PromptFormat(template=template)
  asked = form.ask("1 + 1?")
  with pytest.raises(InputError, match=r"template: .* is around .* already, expected '{prompt}' for such rows"):
    form.ask(asked)
  assert PromptFormat().ask(asked) == asked


def test_digests_are_of_content(tmp_path):
  path = write(tmp_path, GOOD)
  assert prompts.file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
  with pytest.raises(InputError, match="cannot be read: No such file"):
    prompts.file_digest(tmp_path / "none.jsonl")
  rows = [{"prompt": "a", "answer": "1"}, {"prompt": "b", "answer": "2"}]
  digest = prompts.rows_digest(rows)
  assert digest == prompts.rows_digest([{"answer": "1", "prompt": "a"}, rows[1]])  # the order of columns is no content
  assert digest not in (prompts.rows_digest(rows[::-1]), prompts.rows_digest(rows[:1]))


@pytest.mark.skipif(
  not SHARED.exists(), reason=f"needs the data sets in {SHARED}, which are not part of the repository"
)
@pytest.mark.parametrize(
  "name, rows, first",
  [("gsm8k_train.jsonl.gz", 7473, "72"), ("aime2024.jsonl", 30, None), ("math500.jsonl.gz", 500, None)],
)
def test_public_data_sets_are_read_as_they_are(name, rows, first):
  read = prompts.read_jsonl(SHARED / name)
  assert len(read) == rows
  characters = sorted({c for row in read for c in row.columns.get("question", row.columns.get("problem"))})
  made, _ = prompts.make_prompts(read, tiny_tokenizer(characters), max_length=10_000)
  assert first is None or made[0].row["answer"] == first
  assert len(made[0].tokens) == len(read[0].columns.get("question", read[0].columns.get("problem")))
