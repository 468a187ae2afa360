import json

from posttrain_jax.data.vocabularies import byte_tokenizer
from posttrain_jax.serving.completion import AnswerPiece, Ending
from posttrain_jax.serving.openai_answer import DONE, CompletionWriter, error_event
from posttrain_jax.serving.openai_request import ParsedRequest

BYTES = byte_tokenizer()
H, I = BYTES.encode("hi")
E_ACUTE = BYTES.encode("é")


def piece(choice, text, tokens, reason=None, top=()):
  logprobs = tuple(-0.5 * (at + 1) for at in range(len(tokens)))
  return AnswerPiece(
    choice=choice,
    text=text,
    tokens=tuple(tokens),
    logprobs=logprobs,
    top_logprobs=top,
    finish_reason=reason,
    version="step-1-ab",
  )


def writer(chat=True, **fields):
  asked = {"messages": [{"role": "user", "content": "x"}]} if chat else {"prompt": "x"}
  parsed = ParsedRequest(json.dumps({**asked, **fields}).encode(), chat=chat)
  return CompletionWriter(parsed, "m", BYTES, chat=chat, prompt_tokens=5)


def data(event):
  assert event.startswith("data: ") and event.endswith("\n\n")
  return json.loads(event[6:])


def test_a_whole_chat():
  answer = writer(n=2)
  assert answer.unfinished == [0, 1]
  answer.add(1, piece(1, "h", [H]))
  answer.add(0, piece(0, "", [1], Ending.STOP))
  answer.add(1, piece(1, "i", [I], Ending.LENGTH))
  assert answer.unfinished == []
  found = answer.whole()
  assert (found["object"], found["model"], found["system_fingerprint"]) == ("chat.completion", "m", "step-1-ab")
  assert [choice["message"]["content"] for choice in found["choices"]] == ["", "hi"]
  assert [choice["finish_reason"] for choice in found["choices"]] == ["stop", "length"]
  assert found["choices"][0]["logprobs"] is None
  assert found["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
  assert found["id"].startswith("chatcmpl-") and found["id"] != writer().whole()["id"]


def test_logprobs_of_a_chat_leave_out_the_end_token_and_what_cannot_be():
  answer = writer(logprobs=True, top_logprobs=2)
  top = (((H, -0.5), (I, float("-inf"))), ((E_ACUTE[0], -0.1),), ((1, -0.1),))
  answer.add(0, piece(0, "h", [H, E_ACUTE[0], 1], Ending.STOP, top))
  first, second = answer.whole()["choices"][0]["logprobs"]["content"]
  assert (first["token"], first["bytes"], first["logprob"]) == ("h", [104], -0.5)
  assert [each["token"] for each in first["top_logprobs"]] == ["h"]
  assert second["bytes"] is None  # half of a character
  json.dumps(answer.whole(), allow_nan=False)


def test_logprobs_of_a_completion():
  answer = writer(chat=False, logprobs=1)
  answer.add(0, piece(0, "hi", [H, I], top=(((H, -0.5),), ((H, -0.25),))))
  answer.add(0, piece(0, "h", [H], Ending.LENGTH, (((I, -1.0),),)))
  found = answer.whole()["choices"][0]["logprobs"]
  assert found["tokens"] == ["h", "i", "h"] and found["token_logprobs"] == [-0.5, -1.0, -0.5]
  assert found["top_logprobs"] == [{"h": -0.5}, {"h": -0.25}, {"i": -1.0}] and found["text_offset"] == [0, 1, 2]


def test_a_stream_of_a_chat():
  answer = writer(n=2, stream=True, stream_options={"include_usage": True})
  beginnings = [data(event + "\n\n") for event in answer.beginning().split("\n\n")[:-1]]
  assert [each["choices"][0]["delta"] for each in beginnings] == [{"role": "assistant", "content": ""}] * 2
  one = piece(1, "<b>\n", [H])
  answer.add(1, one)
  event = data(answer.event(1, one))
  assert event["object"] == "chat.completion.chunk" and event["usage"] is None
  assert event["choices"] == [{"index": 1, "delta": {"content": "<b>\n"}, "logprobs": None, "finish_reason": None}]
  last = piece(1, "", [1], Ending.STOP)
  answer.add(1, last)
  assert data(answer.event(1, last))["choices"][0] == {
    **{"index": 1, "delta": {}, "logprobs": None},
    "finish_reason": "stop",
  }
  answer.cut_off(0)
  assert data(answer.cut_event(0))["choices"][0]["finish_reason"] == "length"
  usage, done = answer.ending().split("\n\n")[:2]
  assert data(usage + "\n\n")["usage"]["completion_tokens"] == 2 and data(usage + "\n\n")["choices"] == []
  assert done + "\n\n" == DONE


def test_a_stream_of_text_goes_on_with_its_offsets():
  answer = writer(chat=False, stream=True, logprobs=0)
  assert answer.beginning() == "" and answer.ending() == DONE
  for number, text in enumerate(("hé", "i")):
    new = piece(0, text, [H, *E_ACUTE] if number == 0 else [I])
    answer.add(0, new)
    event = data(answer.event(0, new))
  assert event["choices"][0]["text"] == "i" and event["choices"][0]["logprobs"]["text_offset"] == [2]
  assert "usage" not in event


def test_an_error_is_an_event():
  assert data(error_event("broken"))["error"]["message"] == "broken"
