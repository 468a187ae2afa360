"""Deploys a model of the assistant world to simulated users, who talk to it over HTTP.

The server is that of `experiments.serve`, in this process, with the routes of its chat page. Users ask for two or more
answers, and leave votes and edits as that page does. What they leave becomes rows of the next round of training.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import pathlib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data import sources
from posttrain_jax.data.assistant_world.facts import WorldSettings, make_world
from posttrain_jax.data.assistant_world.requests import TEMPLATE, WorldRequest
from posttrain_jax.recipes.alignment import AskedModel
from posttrain_jax.recipes.assistant_data import COMPARISONS, EDITED
from posttrain_jax.recipes.effort import Effort, drawing
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.recipes.simulated_users import SEEN, Habits, UserFeedback, vote
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.serving.extra import check_installed
from posttrain_jax.serving.feedback_store import FeedbackFile
from posttrain_jax.types import InputError

FEEDBACK = "feedback"
_NAME, _HOST = "assistant", "127.0.0.1"
_STEPS = 8  # tokens drawn between two looks at the queue
_SECONDS = 600.0  # cap on an answer
_LARGEST = 100_000  # bytes of a request
_MANY = 10**6  # requests a minute: all users are this process


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeploymentSettings:
  """Describes a deployment.

  Attributes:
    seed: of the answers and of the users.
    model: what is deployed.
    world: what users know.
    prompts: what they ask, rows of prompts in the assistant world.
    habits: how they judge.
    answers: to each request, of which a user sees two.
    clients: users who wait for answers at the same time.
    slots: answers drawn at the same time.
    max_prompt_length: cap on a prompt in tokens.
    max_new_tokens: cap on an answer in tokens.
  """

  seed: int
  model: AskedModel
  world: WorldSettings
  prompts: str
  habits: Habits
  answers: int = at_least(2)
  clients: int = at_least(1)
  slots: int = at_least(1)
  max_prompt_length: int = at_least(1)
  max_new_tokens: int = at_least(1)


def deployment(world: Mapping[str, object], *, votes: float, edits: float, noise: float) -> ConfigDict:
  """Returns the config of a deployment, whose inputs are `model.path` and `prompts`.

  Args:
    world: fields of `WorldSettings`.
    votes: as in `Habits`, and so are the next two.
    edits: share of the votes with an edit.
    noise: how many times as noisy as a labeller users are.
  """
  habits = dict(votes=votes, edits=edits, noise=noise)
  sizes = dict(answers=4, clients=16, slots=64, max_prompt_length=32, max_new_tokens=48)
  return ConfigDict(dict(seed=0, model=dict(path=""), world=dict(world), prompts="", habits=habits, **sizes))


def check(config: ConfigDict) -> None:
  """Checks the config of a deployment, and that a server can be started.

  Raises:
    InputError: if a field is unknown, missing or of another type, or if the server's packages are missing.
  """
  parse(DeploymentSettings, config)
  check_installed("a deployment")


def forecast(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates answers, votes and edits."""
  model, _ = known.policy(config.model)
  count = known.count(config.prompts)
  drawn = count * config.answers * known.length(config.max_new_tokens)
  votes = round(count * config.habits.votes)
  edits = round(votes * config.habits.edits)
  return drawing(model, examples=count, tokens=drawn, rows={COMPARISONS: votes + edits, EDITED: edits})


def deploy(config: ConfigDict, folder: pathlib.Path) -> dict[str, int]:
  """Serves a model to users until each has asked once.

  Args:
    config: a record `DeploymentSettings`.
    folder: gets feedback/ as the server stores it, comparisons.jsonl with votes and edits, and edited.jsonl with the
      edits as demonstrations. Prompts of the last two are as the model reads them, in the order of the requests. The
      strength of all comparisons is the least difference that users see.

  Returns:
    "asked", "votes", "ties", "edits" and "tokens_generated", their numbers.

  Raises:
    InputError: if the model or the requests cannot be read, or if the server refuses one, as one that is too long.
  """
  given = parse(DeploymentSettings, config)
  world = make_world(given.world)
  requests = [WorldRequest.from_row(row.columns) for row in sources.read_rows(given.prompts)[0]]

  def talk(number: int) -> tuple[bool, int]:
    request, seed = requests[number], given.seed * len(requests) + number
    said = _post(f"{url}/v1/chat/completions", _question(given, request, seed))
    finished = [each["message"]["content"] for each in said["choices"] if each["finish_reason"] == "stop"]
    finished = [text for text in finished if text.strip()]  # the server takes no votes on answers without words
    left = vote(request, finished, given.habits, world, seed=seed)
    for body in _feedback(f"request-{number:06d}", request, finished, left, said) if left is not None else ():
      _post(f"{url}/feedback", body)
    return left is not None and left.better is None, said["usage"]["completion_tokens"]

  with _served(given, folder / FEEDBACK) as url, concurrent.futures.ThreadPoolExecutor(given.clients) as users:
    ties, tokens = zip(*users.map(talk, range(len(requests))))
  votes, edits = (_rows(folder / FEEDBACK / name) for name in (FeedbackFile.VOTES, FeedbackFile.EDITS))
  compared = [{**_columns(row, "chosen", "rejected"), "strength": SEEN} for row in (*votes, *edits)]
  atomic_files.write_rows(folder / COMPARISONS, compared)
  atomic_files.write_rows(folder / EDITED, [_columns(row, "completion") for row in edits])
  counts = {"votes": len(votes), "ties": sum(ties), "edits": len(edits)}
  return {"asked": len(requests), **counts, "tokens_generated": sum(tokens)}


@contextlib.contextmanager
def _served(given: DeploymentSettings, folder: pathlib.Path) -> Iterator[str]:
  """Starts the server, whose packages the base install lacks, and gives its URL."""
  from posttrain_jax.serving.app import RequestLimits, ServingApp
  from posttrain_jax.serving.background import in_background
  from posttrain_jax.serving.chat_routes import ChatModel, chat_routes
  from posttrain_jax.serving.feedback_store import FeedbackStore
  from posttrain_jax.serving.guard import GuardSettings, guarded
  from posttrain_jax.serving.running_model import EngineSizes, RunningModel
  from posttrain_jax.serving.server import listen

  sizes = EngineSizes(
    slots=given.slots,
    max_prompt_length=given.max_prompt_length,
    max_new_tokens=given.max_new_tokens,
    queue=given.clients * given.answers,
    steps_per_dispatch=_STEPS,
  )
  with contextlib.ExitStack() as opened:
    # A model of a collection's prompts was trained on them as they are; people ask without the template.
    model = RunningModel(given.model.path, sizes, asked={"template": TEMPLATE})
    opened.callback(model.close)
    feedback = opened.enter_context(FeedbackStore(folder))
    routes = chat_routes({_NAME: ChatModel(reads_messages=False, max_tokens=given.max_new_tokens)}, feedback)
    app = ServingApp({_NAME: model}, RequestLimits(seconds=_SECONDS, per_client=given.clients), routes)
    bound = listen(_HOST, 0)
    guard = GuardSettings(_HOST, bound.getsockname()[1], None, _LARGEST, requests_per_minute=_MANY)
    yield opened.enter_context(in_background(guarded(app.asgi, guard), bound))


def _question(given: DeploymentSettings, request: WorldRequest, seed: int) -> dict[str, Any]:
  messages = [{"role": "user", "content": request.text}]
  return {"model": _NAME, "messages": messages, "n": given.answers, "seed": seed, "temperature": 1.0}


def _feedback(
  name: str, request: WorldRequest, answers: Sequence[str], left: UserFeedback, said: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
  """Yields what the chat page would send of a vote, and of an edit.

  The better answer is edited, and the first one where neither is better.
  """
  common = {"client": name, "prompt": [{"role": "user", "content": request.text}]}
  origin = {"model": _NAME, "version": said["system_fingerprint"], "sampling": {"temperature": 1.0}}
  shown = [{"text": answers[number], **origin} for number in left.shown]
  yield {"kind": "vote", "id": name, **common, "answers": shown, "better": left.better}
  if left.edited is not None:
    yield {"kind": "edit", "id": f"{name}-edit", **common, "answer": shown[left.better or 0], "edited": left.edited}


def _post(url: str, body: Mapping[str, Any]) -> dict[str, Any]:
  request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
  try:
    with urllib.request.urlopen(request, timeout=_SECONDS) as response:
      return json.loads(response.read())
  except urllib.error.HTTPError as error:
    raise InputError(f"deployment: {error.code} of the server: {error.read().decode()}") from None


def _rows(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the rows of a file of feedback in the order of the requests."""
  rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
  return sorted(rows, key=lambda row: row["id"])


def _columns(row: Mapping[str, Any], *names: str) -> dict[str, str]:
  return {"prompt": TEMPLATE.format(prompt=row["prompt"])} | {name: row[name] for name in names}
