import json

import pytest

from posttrain_jax.serving import feedback_request
from posttrain_jax.serving.feedback_store import FeedbackStore
from posttrain_jax.types import InputError

ANSWER = {"text": "yes", "model": "chat", "version": "3", "sampling": {"temperature": 0.5, "seed": None}}
OTHER = {**ANSWER, "text": "no"}
PROMPT = [{"role": "user", "content": "Is it?"}]
THUMB = {"kind": "thumb", "id": "id-00001", "client": "client-01", "prompt": PROMPT, "answer": ANSWER, "up": True}
VOTE = {"kind": "vote", "id": "id-00002", "client": "client-01", "prompt": PROMPT, "answers": [ANSWER, OTHER]}
VOTE["better"] = 1
EDIT = {**{k: v for k, v in THUMB.items() if k != "up"}, "kind": "edit", "edited": "Yes, it is."}
MODELS = {"chat": True, "plain": False}


@pytest.fixture
def send(tmp_path):
  with FeedbackStore(tmp_path) as store:

    def send(said):
      body = said if isinstance(said, bytes) else json.dumps(said).encode()
      return feedback_request.store(body, store, MODELS.get)

    send.rows = lambda name: [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
    yield send


def test_what_is_said_is_stored_once(send):
  assert send(VOTE) and not send(VOTE)
  (row,) = send.rows("votes.jsonl")
  assert (row["prompt"], row["chosen"], row["rejected"]) == (PROMPT, "no", "yes")
  assert row["time"].startswith("20") and row["time"].endswith("Z")
  assert send({**VOTE, "id": "id-00003", "better": 0})
  assert send.rows("votes.jsonl")[1]["chosen"] == "yes"
  assert send({**VOTE, "id": "id-00004", "better": None})
  assert send.rows("ties.jsonl")[0]["ranks"] == [0, 0]
  assert send(THUMB) and send.rows("liked.jsonl")[0]["completion"] == "yes"
  assert send({**THUMB, "id": "id-00005", "up": False}) and send.rows("disliked.jsonl")[0]["label"] is False
  assert send({**EDIT, "id": "id-00006"}) and send.rows("edits.jsonl")[0]["completion"] == "Yes, it is."


def test_a_model_without_a_chat_template_has_text_as_its_prompt(send):
  send({**THUMB, "answer": {**ANSWER, "model": "plain"}})
  assert send.rows("liked.jsonl")[0]["prompt"] == "Is it?"


def changed(said, **fields):
  return {**said, **fields}


@pytest.mark.parametrize(
  ("said", "message"),
  [
    (b"{", "malformed JSON"),
    (b"[" * 100_000, "malformed JSON"),
    (b"[]", "found a JSON list"),
    (changed(THUMB, kind="like"), "kind: 'like', expected one of vote, thumb, edit"),
    (changed(THUMB, kind=["vote"]), "kind: "),
    (changed(THUMB, more=1), "expected answer, client, id, kind, prompt, up"),
    (changed(THUMB, up="yes"), "up: 'yes', expected true or false"),
    (changed(THUMB, client="../../x"), "client: expected 8 to 64 letters"),
    (changed(THUMB, id=7), "id: expected 8 to 64"),
    (changed(THUMB, prompt=[]), "prompt: expected a list of 1 to 200"),
    (changed(THUMB, prompt=PROMPT * 201), "prompt: expected a list of 1 to 200"),
    (changed(THUMB, prompt=[{"role": "tool", "content": "x"}]), r"prompt\[0\]: expected"),
    (changed(THUMB, prompt=[{"role": "user", "content": "x", "name": "y"}]), r"prompt\[0\]: expected"),
    (changed(THUMB, prompt=[{"role": "user", "content": "\ud800"}]), "half a character"),
    (changed(THUMB, prompt=[{"role": "system", "content": "x"}]), "words of the user as the last"),
    (changed(THUMB, prompt=[{"role": "user", "content": "x" * 100_001}]), "at most 100000 characters"),
    (changed(THUMB, answer="x"), "answer: expected 'text'"),
    (changed(THUMB, answer={**ANSWER, "text": " "}), "answer.text: .* not empty"),
    (changed(THUMB, answer={**ANSWER, "model": "gone"}), "answer.model: 'gone' is not served here"),
    (changed(THUMB, answer={**ANSWER, "model": ["chat"]}), "is not served here"),
    (changed(THUMB, answer={**ANSWER, "version": "x\n"}), "answer.version"),
    (changed(THUMB, answer={**ANSWER, "version": 3}), "answer.version"),
    (changed(THUMB, answer={**ANSWER, "sampling": {"other": 1}}), "answer.sampling: expected some of"),
    (changed(THUMB, answer={**ANSWER, "sampling": {"seed": "1"}}), "answer.sampling.seed"),
    (changed(THUMB, answer={**ANSWER, "sampling": {"seed": float("nan")}}), "answer.sampling.seed"),
    (changed(VOTE, answers=[ANSWER]), "answers: expected a list of two"),
    (changed(VOTE, better=2), "better: 2, expected 0, 1 or null"),
    (changed(VOTE, better=True), "better: True"),
    (changed(VOTE, answers=[ANSWER, ANSWER]), "answers: are equal"),
    (changed(EDIT, edited="yes"), "edited: equals the answer"),
    (changed(EDIT, edited=""), "edited: .* not empty"),
  ],
)
def test_anything_else_is_refused_and_nothing_is_stored(said, message, send):
  with pytest.raises(InputError, match=message) as refused:
    send(said)
  assert len(str(refused.value)) < 600
  assert not any(send.rows(name) for name in ("votes.jsonl", "ties.jsonl", "edits.jsonl", "liked.jsonl"))
