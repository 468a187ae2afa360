"""Tests a running model: its answers are the engine's own, whoever else asks, comes and leaves."""

import concurrent.futures
import queue
import time

import pytest

from posttrain_jax.serving import running_model
from posttrain_jax.serving.completion import Refused
from posttrain_jax.types import InputError, NotFinite
from tests.serving.served import SIZES, AloneEngine, asked, collected, new_model, save_byte_model

REQUESTS = [
  asked(prompt, temperature=temperature, top_p=top_p, top_k=top_k, stop=stop, seed=seed, n=n, max_tokens=cap)
  for seed, (prompt, temperature, top_p, top_k, stop, n, cap) in enumerate(
    [
      ("ab", 1.0, 1.0, 0, (), 1, None),
      ("ab", 0.0, 1.0, 0, (), 1, 9),
      ("a longer prompt", 0.7, 0.9, 0, ("e", "a"), 2, None),
      ("x", 1.3, 1.0, 5, (), 3, 7),
      ((4, 9, 100), 1.0, 0.5, 0, (), 1, 1),
      (({"role": "user", "content": "hé"},), 1.0, 1.0, 0, ("\x00",), 2, None),
    ]
  )
]


@pytest.fixture(scope="module")
def alone(folder):
  return AloneEngine(folder)


def expected(alone, model, request):
  return alone.answers(running_model.prompt_tokens(request.prompt, model.tokenizer, model._format), request)


def test_answers_of_many_at_once_are_those_of_an_engine_alone(model, alone):
  """Bits of logprobs, too."""
  with concurrent.futures.ThreadPoolExecutor(12) as pool:
    for _ in range(2):
      found = list(pool.map(lambda request: collected(model.pieces(request), request.n), REQUESTS))
      assert found == [expected(alone, model, request) for request in REQUESTS]
  assert len({str(each) for each in found}) == len(REQUESTS) and model.choices == (0, 0)


def test_a_request_without_a_seed_gets_a_new_one(model):
  first, second = (collected(model.pieces(asked(seed=None))) for _ in range(2))
  assert first != second


def test_alternatives_come_with_each_token(model):
  pieces = list(model.pieces(asked(top_logprobs=3, temperature=0.0)))
  tops = [top for piece in pieces for top in piece.top_logprobs]
  tokens = [token for piece in pieces for token in piece.tokens]
  assert [top[0][0] for top in tops] == tokens and {len(top) for top in tops} == {3}
  assert all(piece.version == model.version for piece in pieces)


def slow_model(folder, seconds=0.02, **options):
  """Makes a model whose engine takes a while for each dispatch."""
  slow = new_model(folder, **options)
  engine = slow._engine._engine
  step = engine.step
  engine.step = lambda: (time.sleep(seconds), step())[1]
  return slow


def test_a_full_queue_refuses_and_takes_again_later(folder):
  model, pieces = slow_model(folder), queue.SimpleQueue()
  running = [model.submit(asked(n=4, seed=seed), pieces.put) for seed in range(4)]
  assert model.choices == (4, 12)
  with pytest.raises(Refused, match="16 choices are under way or wait, which is the limit of 16") as refused:
    model.submit(asked(), pieces.put)
  assert refused.value.busy
  for each in running:
    each.cancel()
    each.cancel()
  while sum(model.choices):
    time.sleep(0.01)
  assert collected(model.pieces(asked()))[0][3] in ("stop", "length")
  model.close()


def test_a_cancelled_request_ends_and_changes_no_other(folder, alone):
  model = slow_model(folder)
  others = [queue.SimpleQueue() for _ in REQUESTS]
  for request, pieces in zip(REQUESTS, others):
    model.submit(request, pieces.put)
  for seed in range(2):
    iterator = model.pieces(asked(seed=seed))
    next(iterator)
    iterator.close()
  waiting = queue.SimpleQueue()
  model.submit(asked(n=2), waiting.put).cancel()  # before the engine sees it
  for request, pieces in zip(REQUESTS, others):
    got = []
    while sum(piece.finish_reason is not None for piece in got) < request.n:
      got.append(pieces.get(timeout=30))
    assert collected(got, request.n) == expected(alone, model, request)
  while sum(model.choices):
    time.sleep(0.01)
  assert model._running == {} and waiting.qsize() <= 2
  model.close()
  assert not model._engine._engine.busy and model._engine._running == {}


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(prompt="x" * 41), "prompt: 41 tokens, expected 1 to 40"),
    (dict(prompt=""), "prompt: 0 tokens, expected 1 to 40"),
    (dict(prompt=(262,)), "prompt: expected token ids from 0 to 261"),
    (dict(max_tokens=25), "max_tokens: 25, expected 1 to 24"),
    (dict(n=17), "n: 17, expected 1 to 16"),
    (dict(temperature=-1.0), "temperature: -1.0, expected 0 or more"),
    (dict(top_logprobs=21), "top_logprobs: 21, expected 0 to 20"),
    (dict(stop=("",)), "expected none that is empty"),
  ],
)
def test_what_cannot_be_drawn_is_refused_before_it_is_queued(model, changes, message):
  with pytest.raises(InputError, match=message):
    model.submit(asked(**changes), print)
  assert model.choices == (0, 0)


def test_closing_refuses_what_runs_and_what_comes(folder):
  model, pieces = slow_model(folder), queue.SimpleQueue()
  model.submit(asked(), pieces.put)
  model.submit(asked(), pieces.put)
  model.close()
  got = []
  while not pieces.empty():
    got.append(pieces.get())
  refused = [each for each in got if isinstance(each, Refused)]
  assert len(refused) == 2 and not refused[0].busy and got[-2:] == refused
  with pytest.raises(Refused, match="shutting down"):
    model.submit(asked(), print)


def test_logits_that_are_no_numbers_end_the_requests_and_not_the_model(folder):
  model = new_model(folder)
  engine, failing = model._engine._engine, []
  step = engine.step

  def broken():
    if failing:
      failing.clear()
      engine.suspend()
      raise NotFinite("broken")
    return step()

  engine.step = broken
  failing.append(True)
  with pytest.raises(NotFinite, match="broken"):
    list(model.pieces(asked()))
  assert collected(model.pieces(asked()))[0][3] and model.failure is None
  model.close()


def test_an_engine_that_fails_leaves_nobody_waiting(folder):
  model = new_model(folder)

  def broken():
    raise ValueError("out of memory")

  model._engine._engine.step = broken
  with pytest.raises(RuntimeError, match="out of memory"):
    list(model.pieces(asked()))
  with pytest.raises(Refused, match="the model has failed: out of memory") as refused:
    model.submit(asked(), print)
  assert not refused.value.busy
  model.close()


def test_a_newer_checkpoint_is_taken_without_losing_a_request(tmp_path):
  """Each answer is drawn by one version, and is what an engine with that version's parameters alone gives."""
  newer = save_byte_model(tmp_path / "newer", 0, 1)
  both = [AloneEngine(save_byte_model(tmp_path / name, seed)) for name, seed in (("first", 0), ("second", 1))]
  folder = tmp_path / "run"
  save_byte_model(folder, 0)
  model = slow_model(folder, 0.01, reload_seconds=0.05)
  old = model.version
  answered = {old: 0}
  with concurrent.futures.ThreadPoolExecutor(8) as pool:

    def ask(seed):
      pieces = list(model.pieces(asked(seed=seed, n=1 + seed % 2)))
      (version,) = {piece.version for piece in pieces}
      return version, seed, collected(pieces, 1 + seed % 2)

    futures = [pool.submit(ask, seed) for seed in range(6)]
    for name in ("2", *(path.name for path in (newer / "checkpoints").glob("*2*") if path.is_file())):
      (newer / "checkpoints" / name).rename(folder / "checkpoints" / name)
    while model.version == old:
      futures.append(pool.submit(ask, len(futures)))
      futures[-1].result()
    futures += [pool.submit(ask, 1000 + seed) for seed in range(6)]
    for version, seed, found in (future.result() for future in futures):
      answered[version] = answered.get(version, 0) + 1
      assert found == both[version != old].answers(model.tokenizer.encode("ab"), asked(seed=seed, n=1 + seed % 2))
  assert len(answered) == 2 and answered[old] >= 6 and answered[model.version] >= 6
  assert model.version.startswith("step-2-")
  model.close()


def test_a_reward_model_is_refused(tmp_path):
  from tests.recipes.saved_model import save_model

  save_model(tmp_path / "judge", 0, scalar_head=True)
  with pytest.raises(InputError, match="is a reward model, expected a language model"):
    new_model(tmp_path / "judge")


def test_sizes_that_do_not_fit_the_model_are_refused(tmp_path):
  from tests.recipes.saved_model import save_model

  save_model(tmp_path / "short", 0, max_position_embeddings=SIZES.max_prompt_length)
  with pytest.raises(InputError, match="more than the model's context of 40"):
    new_model(tmp_path / "short")
