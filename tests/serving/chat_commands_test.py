import json

import pytest

from posttrain_jax.data.encoding import encode_demonstrations
from posttrain_jax.data.preference_rows import judgement
from posttrain_jax.data.prompts import read_jsonl
from posttrain_jax.data.vocabularies import byte_tokenizer
from posttrain_jax.serving.chat_commands import HELP, QUIT, RETRY, ChatCommands
from posttrain_jax.serving.chat_session import ChatSampling, ChatSession
from posttrain_jax.serving.feedback_rows import GivenAnswer
from posttrain_jax.types import InputError


@pytest.fixture
def chat():
  session = ChatSession(ChatSampling(1.0, 1.0, 100, None), None, reads_messages=True)
  said = []
  commands = ChatCommands(session, said.append)
  commands.session, commands.said = session, said
  return commands


def ask(session, *texts):
  for number, text in enumerate(texts):
    session.add("q", GivenAnswer(text, "m", "3", {"temperature": 1.0}), retry=number > 0)


def test_sampling_is_changed(chat):
  for line in ("/temperature .7", "/top_p 0.9", "/max_tokens 20", "/seed 3"):
    chat(line)
  assert chat.session.sampling == ChatSampling(0.7, 0.9, 20, 3)
  chat("/seed none")
  assert chat.session.sampling.seed is None
  chat("/system Be  kind.")
  assert chat.session.system == "Be  kind."
  chat("/system none")
  assert chat.session.system is None


def test_a_conversation_is_saved_as_a_demonstration(chat, tmp_path):
  ask(chat.session, "hello")
  chat(f"/save {tmp_path}/saved.jsonl")
  chat("/save")
  rows = read_jsonl(tmp_path / "saved.jsonl")
  assert len(rows) == 2 and rows[0].columns["model"] == "m" and rows[0].columns["version"] == "3"
  tokenizer = byte_tokenizer()
  (example, _) = encode_demonstrations(rows, tokenizer, chat=False)
  assert tokenizer.decode(example.tokens[example.mask], skip_special_tokens=True) == "hello"


def test_a_better_answer_is_saved_as_a_preference(chat, tmp_path):
  ask(chat.session, "one", "two")
  chat(f"/better a {tmp_path}/votes.jsonl")
  chat("/better B")
  rows = read_jsonl(tmp_path / "votes.jsonl")
  found = [[answer["content"] for answer in judgement(row.columns).answers] for row in rows]
  assert found == [["one", "two"], ["two", "one"]]
  assert rows[0].columns["client"] == rows[1].columns["client"] and rows[0].columns["id"] != rows[1].columns["id"]
  assert chat.session.messages()[-1]["content"] == "two"


def test_undo_and_reset(chat):
  ask(chat.session, "one")
  ask(chat.session, "two")
  chat("/undo")
  assert len(chat.session.turns) == 1
  chat("/reset")
  assert chat.session.turns == []


def test_help_names_every_command(chat):
  chat("/help")
  assert len(chat.said) == len(HELP)
  known = {usage.split()[0] for usage in HELP}
  assert known == {*chat._commands, RETRY, QUIT}


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("/temprature 1", "^/temprature: there is no such command; /help lists them"),
    ("/temperature", "^/temperature: '', expected a number"),
    ("/temperature nan", "^/temperature: 'nan', expected a number"),
    ("/temperature -1", "^/temperature: -1.0, expected a number from 0"),
    ("/top_p 2", "^/top_p: 2.0, expected a number above 0"),
    ("/max_tokens 1.5", "^/max_tokens: '1.5', expected a whole number"),
    ("/seed -1", "^/seed: -1, expected a number from 0"),
    ("/system", "^/system: found no text"),
    ("/undo", "^/undo: there is no question yet"),
    ("/save a.jsonl", "^/save: there is no question yet"),
    ("/better A", "^/better: there is no question yet"),
  ],
)
def test_what_does_not_fit_is_said_in_one_line(line, message, chat):
  with pytest.raises(InputError, match=message):
    chat(line)


def test_files_are_checked_before_anything_changes(chat, tmp_path):
  ask(chat.session, "one", "two")
  for line, message in (
    ("/save", "^/save: found no file, expected FILE.jsonl"),
    (f"/save {tmp_path}/a.txt", r"^/save: .*a\.txt, expected a name that ends with \.jsonl"),
    (f"/better A {tmp_path}/no/a.jsonl", "^/better=.*expected a file in a directory that exists"),
    ("/better A gs://b/a.jsonl", "only paths of this machine"),
  ):
    with pytest.raises(InputError, match=message):
      chat(line)
  assert chat.session.turns[0].kept == 1 and list(tmp_path.iterdir()) == []
  with pytest.raises(InputError, match="expected A"):
    chat(f"/better C {tmp_path}/a.jsonl")
  assert json.dumps(chat.said) == "[]"
