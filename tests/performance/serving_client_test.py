import json
import socket
import threading

import pytest

pytest.importorskip("httptools", reason="needs pip install 'posttrain_jax[serve]'")

from posttrain_jax.performance.serving_client import LoadClient, request_bytes
from tests.serving.served import asked

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(text):
  return f"{len(text.encode()):x}\r\n{text}\r\n".encode()


def event(**fields):
  return chunk(f"data: {json.dumps(fields)}\n\n")


def piece(text, reason=None):
  return event(choices=[{"text": text, "finish_reason": reason}])


@pytest.fixture
def answered():
  """Returns a function that reads the answer in what a server sends, a part at a time."""
  with socket.create_server(("127.0.0.1", 0)) as listening:

    def serve(parts):
      connection, _ = listening.accept()
      with connection:
        connection.recv(1 << 16)
        for part in parts:
          connection.sendall(part)

    def ask(*parts):
      threading.Thread(target=serve, args=[parts]).start()
      with LoadClient(f"http://127.0.0.1:{listening.getsockname()[1]}/v1") as client:
        return client.ask(b"any").read()

    yield ask


def test_a_request_is_http_with_the_fields_that_were_asked():
  sent = request_bytes("http://127.0.0.1:8000/v1", asked((4, 5), seed=6), stream=True)
  head, body = sent.split(b"\r\n\r\n", 1)
  assert head.startswith(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n")
  assert head.endswith(f"Content-Length: {len(body)}".encode())
  fields = json.loads(body)
  assert (fields["prompt"], fields["seed"], fields["stream"]) == ([4, 5], 6, True)
  assert "stream" not in json.loads(request_bytes("http://x/v1", asked(), stream=False).split(b"\r\n\r\n")[1])


def test_a_stream_is_read_wherever_its_parts_are_cut(answered):
  stream = HEAD + piece("hé") + piece("y", "length") + event(choices=[], usage={"completion_tokens": 3})
  stream += chunk("data: [DONE]\n\n") + b"0\r\n\r\n"
  for width in (1, 7, len(stream)):
    answer = answered(*(stream[at : at + width] for at in range(0, len(stream), width)))
    assert (answer.text, answer.tokens, answer.finish_reason) == ("héy", 3, "length")
    assert 0 < answer.first_token <= answer.seconds and answer.per_token >= 0


@pytest.mark.parametrize(
  ("parts", "message"),
  [
    ([HEAD, piece("h")], "the connection ended before the answer did"),
    ([HEAD, piece("h"), b"0\r\n\r\n"], "a stream ended before its answer did"),
    ([HEAD, event(error={"message": "broken"}), b"0\r\n\r\n"], "a stream ended with {'message': 'broken'}"),
    ([b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"], "status 503: b'no'"),
  ],
  ids=lambda value: value if isinstance(value, str) else "",
)
def test_half_an_answer_is_a_failure(answered, parts, message):
  with pytest.raises(RuntimeError, match=message):
    answered(*parts)
