import pytest

pytest.importorskip("starlette", reason="needs pip install 'posttrain_jax[serve]'")
pytest.importorskip("uvicorn", reason="needs pip install 'posttrain_jax[serve]'")
pytest.importorskip("httptools", reason="needs pip install 'posttrain_jax[serve]'")

import http.server
import json
import threading

from posttrain_jax.performance.serving_load import ask_all, load_requests

OPTIONS = dict(vocab_size=50, longest=20, mean_length=8, cap=12, seed=3)


def test_requests_differ_and_keep_to_the_limits():
  requests = load_requests(200, **OPTIONS)
  assert len({request.prompt for request in requests}) > 150
  assert {len(request.prompt) for request in requests} <= set(range(1, 21))
  assert {request.max_tokens for request in requests} == set(range(1, 13))
  assert len({(request.temperature, request.top_p, request.top_k) for request in requests}) == 4
  assert [request.seed for request in requests] == list(range(200))
  assert requests == load_requests(200, **OPTIONS) and requests[0] != load_requests(1, first=7, **OPTIONS)[0]


class Server(http.server.BaseHTTPRequestHandler):
  """Answers with the seed as text, whole or in two pieces."""

  protocol_version = "HTTP/1.1"

  def do_POST(self):
    asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
    seed = str(asked["seed"])
    piece = lambda text, reason: {"choices": [{"text": text, "finish_reason": reason}]}  # noqa: E731
    usage = {"usage": {"completion_tokens": 3}}
    if asked["seed"] == self.server.broken:
      self.send_response(500)
      body = "no"
    elif asked.get("stream"):
      events = [piece(seed[0], None), piece(seed[1:], "length"), {"choices": [], **usage}]
      body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n" * self.server.ends
    else:
      body = json.dumps(piece(seed, "stop") | usage)
    if asked["seed"] != self.server.broken:
      self.send_response(200)
    self.send_header("Content-Length", len(body.encode()))
    self.end_headers()
    self.wfile.write(body.encode())

  def log_message(self, *args):
    pass


@pytest.fixture
def server():
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as found:
    found.broken, found.ends = None, True
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()


def address(server):
  return f"http://127.0.0.1:{server.server_port}/v1"


def test_each_request_gets_its_answer_once(server):
  answers, seconds = ask_all(address(server), load_requests(40, first=10, **OPTIONS), 8)
  assert sorted(answers) == list(range(10, 50)) and all(answer.text == str(seed) for seed, answer in answers.items())
  assert {answer.tokens for answer in answers.values()} == {3}
  assert all((answer.first_token is None) == (seed % 2 == 1) for seed, answer in answers.items())
  assert answers[10].finish_reason == "length" and answers[11].finish_reason == "stop"
  assert max(answer.seconds for answer in answers.values()) <= seconds


def test_when_the_time_is_up_no_further_request_is_sent(server):
  assert len(ask_all(address(server), load_requests(10**4, **OPTIONS), 2, seconds=0.2)[0]) < 10**4


def test_a_request_without_an_answer_is_a_failure(server):
  server.broken = 5
  with pytest.raises(RuntimeError, match="status 500: b'no'"):
    ask_all(address(server), load_requests(20, **OPTIONS), 4)
  with pytest.raises(RuntimeError, match=r"a client failed: .*refused"):
    ask_all("http://127.0.0.1:1/v1", load_requests(20, **OPTIONS), 4)
  server.broken, server.ends = None, False
  with pytest.raises(RuntimeError, match="a stream ended before its answer did"):
    ask_all(address(server), load_requests(20, **OPTIONS), 4)
