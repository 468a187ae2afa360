"""Answers one request over HTTP.

Submits it, collects its pieces, and cancels it if its client leaves or its time is up.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from posttrain_jax.serving.completion import AnswerPiece, Refused, one_line
from posttrain_jax.serving.mailbox import Mailbox
from posttrain_jax.serving.metrics import ServingMetrics
from posttrain_jax.serving.openai_answer import CompletionWriter, error_event
from posttrain_jax.serving.openai_request import ParsedRequest
from posttrain_jax.serving.running_model import RunningModel
from posttrain_jax.serving.running_request import Running

_LONG = 4000  # bytes of a body whose tokenising takes a while, in which others have to be answered


class ClientLeft(Exception):
  """Says that nobody waits for the answer any more."""


class Answering:
  """Stands for one request over HTTP.

  Attributes:
    writer: collects what came, and writes it.
  """

  def __init__(
    self,
    model: RunningModel,
    name: str,
    asked: ParsedRequest,
    *,
    metrics: ServingMetrics,
    mailbox: Mailbox,
    seconds: float,
  ):
    """Notes what is asked; `submit` follows.

    Args:
      model: is asked.
      name: its name.
      asked: the request.
      metrics: are raised.
      mailbox: brings the pieces to the loop.
      seconds: after which all choices end where they are.
    """
    self._model, self._name, self._asked, self._metrics = model, name, asked, metrics
    self._mailbox = mailbox
    self._began = time.monotonic()
    self._deadline = self._began + seconds
    self._came: asyncio.Queue[tuple[int, AnswerPiece | Exception]] = asyncio.Queue()
    self._running: list[Running] = []
    self._last: dict[int, float] = {}  # when a choice's newest piece came

  async def submit(self, *, chat: bool) -> None:
    """Queues the request.

    Raises:
      InputError, Refused: as `RunningModel.submit` does; then nothing is queued.
    """
    before = 0
    try:
      for request in self._asked.asked:

        def deliver(piece: AnswerPiece | Exception, before: int = before) -> None:
          number = -1 if isinstance(piece, Exception) else before + piece.choice
          self._mailbox.put(self._came, (number, piece))

        if self._asked.bytes > _LONG:
          running = await anyio.to_thread.run_sync(self._model.submit, request, deliver)
        else:
          running = self._model.submit(request, deliver)
        self._running.append(running)
        before += request.n
    except BaseException:
      self.cancel()
      raise
    prompt_tokens = sum(running.prompt_tokens for running in self._running)
    self._metrics.prompt_tokens.labels(self._name).inc(prompt_tokens)
    self.writer = CompletionWriter(
      self._asked, self._name, self._model.tokenizer, chat=chat, prompt_tokens=prompt_tokens
    )

  def cancel(self) -> None:
    """Ends what still runs."""
    for running in self._running:
      running.cancel()

  async def whole(self, request: Request) -> Response:
    """Waits for all choices, and returns the response.

    Raises:
      ClientLeft: if the client does not wait.
      Exception: what the engine failed with.
    """
    with self.watched(request.receive):
      async for _ in self._pieces():
        pass
    return JSONResponse(self.writer.whole())

  def stream(self) -> Response:
    """Returns the response that sends pieces as they come."""
    return _EventStream(self)

  async def events(self) -> AsyncIterator[str]:
    """Yields the events of a stream; an error is the last one."""
    if beginning := self.writer.beginning():
      yield beginning
    try:
      async for number, piece in self._pieces():
        yield self.writer.cut_event(number) if piece is None else self.writer.event(number, piece)
    except ClientLeft:
      return
    except Refused as refused:
      yield error_event(str(refused))
      return
    except Exception as error:
      yield error_event(one_line(error))
      return
    yield self.writer.ending()

  async def _pieces(self) -> AsyncIterator[tuple[int, AnswerPiece | None]]:
    """Yields (choice, piece) as they come, and None for a piece when the time is up."""
    while self.writer.unfinished:
      try:
        async with asyncio.timeout(self._deadline - time.monotonic()):
          number, piece = await self._came.get()
      except TimeoutError:
        for number in self.writer.unfinished:
          self.writer.cut_off(number)
          yield number, None
        break
      if isinstance(piece, Exception):
        if isinstance(piece, ClientLeft):
          self._metrics.cancelled.labels(self._name).inc()
        raise piece
      self._measure(number, piece)
      self.writer.add(number, piece)
      yield number, piece
    self._metrics.request.labels(self._name).observe(time.monotonic() - self._began)

  def _measure(self, number: int, piece: AnswerPiece) -> None:
    now = time.monotonic()
    if not self._last:
      self._metrics.first_token.labels(self._name).observe(now - self._began)
    self._metrics.completion_tokens.labels(self._name).inc(len(piece.tokens))
    if number in self._last and piece.tokens:
      self._metrics.token.labels(self._name).observe((now - self._last[number]) / len(piece.tokens))
    self._last[number] = now

  @contextlib.contextmanager
  def watched(self, receive: Receive) -> Iterator[None]:
    """Notes when the client leaves; cancels what still runs at the end of the `with` block."""

    async def watch():
      while (await receive())["type"] != "http.disconnect":
        pass
      self._came.put_nowait((-1, ClientLeft()))

    watching = asyncio.create_task(watch())
    try:
      yield
    finally:
      watching.cancel()
      self.cancel()


class _EventStream(Response):
  """Sends an answer's events, and stops at once if the client leaves."""

  media_type = "text/event-stream"

  def __init__(self, answering: Answering):
    super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    del self.headers["content-length"]
    self._answering = answering

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    with self._answering.watched(receive):
      await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
      async for event in self._answering.events():
        await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
      await send({"type": "http.response.body", "body": b"", "more_body": False})
