import pytest

from posttrain_jax.serving.answer_sources import LocalAnswers, ServerAnswers
from posttrain_jax.serving.chat_session import ChatSampling
from posttrain_jax.serving.completion import AnswerPiece
from posttrain_jax.types import InputError
from tests.serving.fake_server import fake_server

SAMPLING = ChatSampling(0.5, 0.9, 20, 3)
MESSAGES = [{"role": "user", "content": "hi"}]


def test_a_model_in_this_process_is_asked():
  asked = []

  class Running:
    def pieces(self, request):
      asked.append(request)
      for text in ("", "a", "b"):
        yield AnswerPiece(
          choice=0, text=text, tokens=(), logprobs=(), top_logprobs=(), finish_reason=None, version=len(text) + 6
        )

  source = LocalAnswers(Running(), "m")
  assert list(source.answer(MESSAGES, SAMPLING)) == ["a", "b"]
  (request,) = asked
  assert list(request.prompt) == MESSAGES and request.n == 1
  assert (request.temperature, request.top_p, request.max_tokens, request.seed) == (0.5, 0.9, 20, 3)
  assert (source.model, source.version) == ("m", "7")


def test_a_server_is_asked():
  with fake_server(lambda _: ["a", "ü\n", "b"], models=("one", "two")) as (url, requests):
    source = ServerAnswers(url, "two", None)
    assert "".join(source.answer(MESSAGES, SAMPLING)) == "aü\nb"
    assert source.version == "v1"
    assert ServerAnswers(f"{url}/v1/", None, None).model == "one"
    list(source.answer(MESSAGES, ChatSampling(1.0, 1.0, 1, None)))
  expected = dict(model="two", messages=MESSAGES, temperature=0.5, top_p=0.9, max_tokens=20, stream=True)
  assert requests[0] == {**expected, "seed": 3} and "seed" not in requests[1]


@pytest.mark.parametrize(("told", "expected"), [(None, True), (True, True), (False, False)])
def test_a_server_tells_whether_a_model_has_a_chat_template(told, expected):
  with fake_server(lambda _: ["a"], reads_messages=told) as (url, _):
    assert ServerAnswers(url, None, None).reads_messages is expected


def test_an_answer_that_breaks_off_is_no_whole_answer():
  with fake_server(lambda _: ["a", None]) as (url, _):
    pieces = ServerAnswers(url, None, None).answer(MESSAGES, SAMPLING)
    assert next(pieces) == "a"
    with pytest.raises(InputError, match="the connection ended before the answer did"):
      next(pieces)


def test_an_error_within_an_answer_is_told():
  with fake_server(lambda _: ["a", {"error": {"message": "going away"}}]) as (url, _):
    pieces = ServerAnswers(url, None, None).answer(MESSAGES, SAMPLING)
    with pytest.raises(InputError, match="--server: going away"):
      list(pieces)


def test_refusals_are_one_line():
  with fake_server(lambda _: [], status=429) as (url, _):
    with pytest.raises(InputError, match="--server: 429: the queue is full"):
      list(ServerAnswers(url, None, None).answer(MESSAGES, SAMPLING))
    with pytest.raises(InputError, match=r"--model=other: --server=.* serves fake, expected one of these"):
      ServerAnswers(url, "other", None)


def test_the_token_is_shown():
  with fake_server(lambda _: ["a"], token="0123456789abcdef") as (url, _):
    assert list(ServerAnswers(url, None, "0123456789abcdef").answer(MESSAGES, SAMPLING)) == ["a"]
    with pytest.raises(InputError, match="--server: 401: expected the header Authorization"):
      ServerAnswers(url, None, None)


@pytest.mark.parametrize(
  ("url", "message"),
  [
    ("localhost:8000", "expected http://HOST:PORT"),
    ("file:///etc/passwd", "expected http://HOST:PORT"),
    ("http://127.0.0.1:9", "expected a running experiments.serve"),
  ],
)
def test_what_is_no_server_is_named(url, message):
  with pytest.raises(InputError, match=message):
    ServerAnswers(url, None, None)
