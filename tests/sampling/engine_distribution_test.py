"""Tests that the engine draws what the learner's model says: greedy tokens, logprobs and frequencies."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from scipy import stats

from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.parallel.sharding import LEARNER_RULES, state_shardings
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.types import Prompt
from tests.sampling import small_engine
from tests.sampling.small_engine import CONFIG, MAX_NEW, new_engine, prompts, shared_engine

COMPARES_BITS = False
# A vocabulary so small that all answers of two tokens can be counted.
COUNTED = dataclasses.replace(CONFIG, vocab_size=12, num_layers=1)
SAMPLES = 8192


def greedy_by_hand(prompt: Prompt, count: int) -> list[int]:
  """Takes the argmax of a full forward pass, one token at a time.

  Padding behind the sequence does not matter.
  """
  answer = np.zeros((1, 1, count), np.int32)
  tokens = np.zeros((1, 12), np.int32)
  tokens[0, : len(prompt.tokens)] = prompt.tokens
  for t in range(count):
    logits = small_engine.learner_logits(CONFIG, tokens, np.array([len(prompt.tokens)], np.int32), answer)
    answer[0, 0, t] = int(np.argmax(logits[0, 0, t]))
  return answer[0, 0].tolist()


@pytest.mark.parametrize("temperature", [0.0, 1e-3])
def test_temperature_towards_zero_is_greedy(temperature):
  own = [prompt for prompt in prompts(6) if len(prompt.tokens) in (1, 4, 11, 12)]
  engine = new_engine(temperature=temperature, stop_ids=())
  for group in engine.generate(own, 2):
    expected = greedy_by_hand(group.prompt, MAX_NEW)
    for answer in group.answers:
      assert answer.tokens.tolist() == expected
      np.testing.assert_allclose(answer.drawn_logprobs, 0, atol=1e-3)
      assert (temperature == 0) == bool(np.all(answer.sampler_logprobs < -0.01))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampler_logprobs_are_what_the_learner_recomputes(temperature):
  engine = shared_engine() if temperature == 1 else new_engine(temperature=temperature)
  groups = engine.generate(prompts(9), 4)
  tokens, lengths, answers = small_engine.padded(groups)
  logprobs = jax.nn.log_softmax(small_engine.learner_logits(CONFIG, tokens, lengths, answers) / temperature)
  recomputed = np.take_along_axis(np.asarray(logprobs), answers[..., None], axis=-1)[..., 0]
  for i, group in enumerate(groups):
    for j, answer in enumerate(group.answers):
      np.testing.assert_allclose(answer.sampler_logprobs, recomputed[i, j, : len(answer.tokens)], atol=1e-4)


@functools.cache
def exact_two_tokens() -> tuple[np.ndarray, np.ndarray]:
  """Computes logits of the first token [V] and of the second given each first [V, V].

  The prompt has 3 tokens.
  """
  firsts = np.zeros((1, 12, 2), np.int32)
  firsts[0, :, 0] = np.arange(12)
  prompt = np.array([[7, 2, 9]], np.int32)
  logits = small_engine.learner_logits(COUNTED, prompt, np.array([3], np.int32), firsts)
  return np.asarray(logits[0, 0, 0], np.float64), np.asarray(logits[0, :, 1], np.float64)


def counting_engine(sampling):
  shapes = dict(slots=256, max_new_tokens=2, max_prompt_length=3, steps_per_dispatch=2)
  return shared_engine(COUNTED, sampling=sampling, **shapes)


def log_softmax(x):
  return x - np.log(np.sum(np.exp(x - x.max(-1, keepdims=True)), -1, keepdims=True)) - x.max(-1, keepdims=True)


def truncated(logits: np.ndarray, sampling: SamplingConfig) -> np.ndarray:
  """Computes the probabilities of one row after top-k, min-p and top-p, by their definitions."""
  probabilities = np.exp(log_softmax(logits / sampling.temperature))
  kept = np.argsort(-probabilities)[: sampling.top_k or None]
  kept = kept[probabilities[kept] >= sampling.min_p * probabilities.max()]
  shares = probabilities[kept] / probabilities[kept].sum()
  kept = kept[np.cumsum(shares) - shares < sampling.top_p]
  result = np.zeros_like(probabilities)
  result[kept] = probabilities[kept] / probabilities[kept].sum()
  return result


def p_value(counts: np.ndarray, probabilities: np.ndarray) -> float:
  """Computes the p-value of a chi-square test; all cells expected fewer than 8 times are one."""
  expected = probabilities * counts.sum()
  rare = expected < 8
  counts, expected = np.append(counts[~rare], counts[rare].sum()), np.append(expected[~rare], expected[rare].sum())
  return float(stats.chisquare(counts[expected > 0], expected[expected > 0]).pvalue)


@pytest.mark.parametrize(
  "sampling",
  [
    SamplingConfig(),
    SamplingConfig(temperature=0.8, top_k=8, top_p=0.85, min_p=0.05),
  ],
  ids=["whole", "truncated"],
)
def test_frequencies_of_answers_of_two_tokens(sampling):
  first_logits, second_logits = exact_two_tokens()
  engine = counting_engine(sampling)
  (group,) = engine.generate([Prompt(0, (7, 2, 9), {})], SAMPLES)
  drawn = np.stack([answer.tokens for answer in group.answers])
  first = truncated(first_logits, sampling)
  second = np.stack([truncated(row, sampling) for row in second_logits])
  counts = np.zeros((12, 12))
  np.add.at(counts, (drawn[:, 0], drawn[:, 1]), 1)

  assert p_value(counts.sum(1), first) > 1e-3
  joint = first[:, None] * second
  assert p_value(counts.ravel(), joint.ravel()) > 1e-3
  assert counts[joint == 0].sum() == 0
  assert bool((joint == 0).any()) == sampling.truncates

  logprobs = np.stack([answer.sampler_logprobs for answer in group.answers])
  drawn_logprobs = np.stack([answer.drawn_logprobs for answer in group.answers])
  whole = log_softmax(first_logits / sampling.temperature), log_softmax(second_logits / sampling.temperature)
  np.testing.assert_allclose(logprobs[:, 0], whole[0][drawn[:, 0]], atol=1e-4)
  np.testing.assert_allclose(logprobs[:, 1], whole[1][drawn[:, 0], drawn[:, 1]], atol=1e-4)
  np.testing.assert_allclose(drawn_logprobs[:, 0], np.log(first[drawn[:, 0]]), atol=1e-4)
  np.testing.assert_allclose(drawn_logprobs[:, 1], np.log(second[drawn[:, 0], drawn[:, 1]]), atol=1e-4)


def test_prompts_of_equal_tokens_draw_independently():
  """Draws for the same tokens under two prompt indices: the draws are independent."""
  engine = counting_engine(SamplingConfig())
  pair = engine.generate([Prompt(index, (7, 2, 9), {}) for index in (0, 1)], SAMPLES // 2)
  first = truncated(exact_two_tokens()[0], SamplingConfig())
  a, b = (np.array([answer.tokens[0] for answer in group.answers]) for group in pair)
  counts = np.zeros((12, 12))
  np.add.at(counts, (a, b), 1)
  assert p_value(counts.ravel(), np.outer(first, first).ravel()) > 1e-3


def test_eight_devices_agree_with_one():
  """Splits slots over data = 4 and two heads of keys and values over tensor = 2.

  The parameters come from the learner's mesh.
  """
  mesh = make_mesh({"data": 4, "tensor": 2})
  stacked = small_engine.stacked_params(CONFIG)
  learner = jax.device_put(stacked, state_shardings(stacked, make_mesh({"fsdp": 4, "tensor": 2}), LEARNER_RULES))
  abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), learner)
  engine = new_engine(slots=8, prefill_width=3, share=4, mesh=mesh)
  engine.load(make_handover(abstract, num_layers=2, dtype="float32", mesh=mesh)(learner), version=3)
  one = shared_engine()
  own = [prompt for prompt in prompts(9) if len(prompt.tokens) > 6]

  compared = total = 0
  for prompt in own:
    engine.submit(prompt, 4)
  groups = engine.step()
  engine.resume(engine.suspend())  # interrupted, so that resuming is tried on a mesh too
  while engine.busy:
    groups += engine.step()
  groups = {group.prompt.index: group for group in groups}
  for prompt, expected in zip(own, one.generate(own, 4)):
    found = groups[prompt.index]
    for a, b in zip(found.answers, expected.answers):
      n = min(len(a.tokens), len(b.tokens))
      differ = np.flatnonzero(a.tokens[:n] != b.tokens[:n])
      n = differ[0] if differ.size else n
      np.testing.assert_allclose(a.sampler_logprobs[:n], b.sampler_logprobs[:n], atol=1e-5)
      compared, total = compared + n, total + len(b.tokens)
  assert compared > 0.95 * total
  cache, _ = engine._device.state
  # Each of the 4 batch shards has 3 pages for each of its 2 answers and 6 prompts, and one of the 2 key/value heads.
  assert {shard.data.shape for shard in cache[0][0].addressable_shards} == {(2 * 3 + 6 * 3, 1, 4, 8)}
