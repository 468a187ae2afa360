"""Tests where the text of an answer ends at a stop string."""

import dataclasses
import functools

import numpy as np
import pytest

from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.stop_strings import tokens_to_stop
from posttrain_jax.types import FinishReason, InputError
from tests.sampling.small_engine import CONFIG, by_request, new_engine, prompts

# Ids 1 to 4 are two bytes, id 9 has no text; the others are one letter.
TEXTS = {0: b"a", 1: b"\n\n", 2: b"\nQ", 3: "é".encode()[:1], 4: "é".encode()[1:], 9: b""}


def decode(ids):
  return b"".join(TEXTS.get(int(i), bytes([97 + int(i) % 26])) for i in ids).decode(errors="replace")


def stop(*parts, strings=("\nQ",)):
  return tokens_to_stop([np.array(part, np.int32) for part in parts], strings, decode)


@pytest.mark.parametrize(
  ("parts", "strings", "expected"),
  [
    (([5, 6],), ("\nQ",), None),
    (([2, 5, 6],), ("\nQ",), 1),
    (([5, 1, 16, 6],), ("\n\nq",), 3),  # begins in one token and ends in another
    (([5, 1], [16, 6]), ("\nq",), 1),  # begins in an earlier dispatch, inside a token
    (([1], [9, 9], [16]), ("\nq",), 1),  # tokens without text between
    (([7] * 40 + [1], [16, 6]), ("x", "\nq"), 1),
    (([5, 3], [4, 6]), ("fé",), 1),  # a character of two tokens
    (([7] * 40 + [3], [4, 6]), ("hé",), 1),
    (([1],), ("\n",), 1),  # ends inside the token
    (([2, 2],), ("\nQ",), 1),
    (([5], []), ("f",), None),
  ],
)
def test_where_the_answer_ends(parts, strings, expected):
  assert stop(*parts, strings=strings) == expected


def test_the_whole_answer_is_not_decoded_again():
  decoded = []
  parts = [np.full(16, 7, np.int32)] * 1000
  tokens_to_stop(parts, ("\nQ",), lambda ids: decoded.append(len(ids)) or decode(ids))
  assert sum(decoded) < 100


@functools.cache
def engine_of_all():
  return new_engine(sampling=SamplingConfig(stop_ids=(5,), stop_strings=("never",)), decode=spelled)


def engine_with(*strings):
  """Returns the engine of all tests with other strings, which only the host looks at."""
  engine = engine_of_all()
  engine.sampling = dataclasses.replace(engine.sampling, stop_strings=strings)
  engine.take_stats()
  return engine


@functools.cache
def free_answers():
  """Returns answers without a stop string, and a pair of tokens that one of them has within it."""
  groups = engine_with().generate(prompts(5), 3)
  longest = max((answer.tokens for group in groups for answer in group.answers), key=len)
  return groups, tuple(int(token) for token in longest[3:5])  # a dispatch has 4 steps: the pair is in two


def spelled(ids):
  return "".join(f"<{int(i)}>" for i in ids)


def test_an_answer_ends_with_the_string_and_all_else_stays_the_same_bits():
  free, pair = free_answers()
  text = spelled(pair)[1:-1]  # begins and ends inside a token
  engine = engine_with(text)
  stopped = engine.generate(prompts(5), 3)
  shortened = 0
  for before, after in zip(free, stopped):
    for long, short in zip(before.answers, after.answers):
      n = len(short.tokens)
      for name in ("tokens", "sampler_logprobs", "drawn_logprobs"):
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name)[:n])
      spelling = spelled(long.tokens)
      if text in spelling:
        shortened += 1
        assert short.finish_reason == FinishReason.EOS
        assert text in spelled(short.tokens) and text not in spelled(short.tokens[:-1])
      else:
        assert n == len(long.tokens) and short.finish_reason == long.finish_reason
  assert shortened
  stats = engine.take_stats()
  assert stats.generated_tokens == sum(int(group.lengths.sum()) for group in stopped)
  assert stats.idle_slot_steps + stats.generated_tokens == stats.slot_steps
  # In another order, next to other answers.
  assert by_request(engine.generate(prompts(5)[::-1], 3)) == by_request(stopped)


def test_an_answer_that_was_interrupted_still_ends_at_its_string():
  _, pair = free_answers()
  engine = engine_with(spelled(pair))
  whole = {request: bits[0] for request, bits in by_request(engine.generate(prompts(5), 3)).items()}
  for prompt in prompts(5):
    engine.submit(prompt, 3)
  done = engine.step()
  engine.resume(engine.suspend())
  while engine.busy:
    done += engine.step()
  assert {request: bits[0] for request, bits in by_request(done).items()} == whole


def test_what_is_refused():
  with pytest.raises(InputError, match="stop_strings: given without a tokeniser"):
    new_engine(CONFIG, sampling=SamplingConfig(stop_strings=("a",)))
  with pytest.raises(InputError, match=r"sampling\.stop_strings: \[''\]"):
    SamplingConfig(stop_strings=("",))
