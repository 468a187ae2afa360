"""Serves answers that a test chose, in the form of OpenAI's API, with the standard library alone."""

import contextlib
import http.server
import json
import threading


@contextlib.contextmanager
def fake_server(pieces, *, models=("fake",), token=None, status=200, reads_messages=None):
  """Runs a server in a thread.

  Args:
    pieces: yields the pieces of an answer, given the request.
    models: names of what it serves.
    token: that it asks for.
    status: of its answers.
    reads_messages: whether the models have a chat template; None for a server that does not tell.

  Yields:
    (its address, the requests so far).
  """
  requests = []

  class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
      pass

    def _send(self, code, body):
      self.send_response(code)
      self.send_header("Content-Type", "application/json")
      self.end_headers()
      self.wfile.write(json.dumps(body).encode())

    def _allowed(self):
      if token is not None and self.headers.get("Authorization") != f"Bearer {token}":
        self._send(401, {"error": {"message": "expected the header Authorization"}})
        return False
      return True

    def do_GET(self):
      if not self._allowed():
        return
      if self.path == "/chat/about" and reads_messages is not None:
        self._send(200, {"models": [{"name": name, "reads_messages": reads_messages} for name in models]})
      elif self.path == "/v1/models":
        self._send(200, {"object": "list", "data": [{"id": name} for name in models]})
      else:
        self._send(404, {"detail": "Not Found"})

    def do_POST(self):
      asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
      requests.append(asked)
      if not self._allowed():
        return
      if status != 200:
        self._send(status, {"error": {"message": "the queue is full"}})
        return
      self.send_response(200)
      self.send_header("Content-Type", "text/event-stream")
      self.end_headers()
      with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for piece in pieces(asked):
          chunk = {"choices": [{"index": 0, "delta": {"content": piece}}], "system_fingerprint": "v1"}
          chunk = piece if isinstance(piece, dict) else chunk
          self.wfile.write(b"" if piece is None else b"data: " + json.dumps(chunk).encode() + b"\n\n")
          self.wfile.flush()
          if piece is None:
            return
        self.wfile.write(b"data: [DONE]\n\n")

  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  server.daemon_threads = True
  thread = threading.Thread(target=server.serve_forever, args=(0.05,))
  thread.start()
  try:
    yield f"http://127.0.0.1:{server.server_port}", requests
  finally:
    server.shutdown()
    thread.join()
    server.server_close()
