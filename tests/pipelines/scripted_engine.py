"""Imitates the engine without a model.

Lengths and correctness of answers are functions of (prompt, sample, attempt).
"""

import collections
import dataclasses

import numpy as np

from posttrain_jax.sampling.requests import EngineStats
from posttrain_jax.types import Answer, FinishReason, Group, Prompt


@dataclasses.dataclass(eq=False)
class Scripted:
  """Describes a request: the version that drew each token so far, and its final number of tokens."""

  prompt: Prompt
  sample: int
  length: int
  versions: list[int]

  def answer(self, reason):
    n = len(self.versions)
    logprobs = np.full((n,), -1.0, np.float32)
    return Answer(np.ones((n,), np.int32), logprobs, logprobs, np.array(self.versions, np.int32), reason)


class ScriptedEngine:
  """Runs `slots` answers at a time, `pace` tokens of each per step, like the real engine."""

  def __init__(self, length, *, slots=16, pace=4, cap=64):
    self.length, self.slots, self.pace, self.cap, self.version = length, slots, pace, cap, 0
    self.stats, self.queue, self.running = EngineStats(), collections.deque(), []
    self.finished, self.most_open, self.sizes, self.prompts = {}, 0, {}, {}

  @property
  def busy(self):
    return bool(self.queue or self.running)

  @property
  def free_slots(self):
    return max(0, self.slots - len(self.queue) - len(self.running))

  def submit(self, prompt, group_size):
    unfinished = Group(prompt, (Scripted(prompt, 0, 0, []).answer(FinishReason.SUSPENDED),) * group_size)
    self.resume([unfinished])

  def resume(self, groups):
    for group in groups:
      prompt, name = group.prompt, (group.prompt.index, group.prompt.attempt)
      assert name not in self.sizes, "under way already"
      self.sizes[name], self.finished[name], self.prompts[name] = len(group.answers), {}, prompt
      for sample, answer in enumerate(group.answers):
        if answer.finish_reason != FinishReason.SUSPENDED:
          self.finished[name][sample] = answer
          continue
        length = min(self.cap, self.length(prompt, sample))
        self.queue.append(Scripted(prompt, sample, length, answer.versions.tolist()))
        self.stats.recomputed_tokens += len(answer.tokens)
    self.most_open = max(self.most_open, len(self.sizes))

  def suspend(self):
    for request in [*self.running, *self.queue]:
      name = (request.prompt.index, request.prompt.attempt)
      self.finished[name][request.sample] = request.answer(FinishReason.SUSPENDED)
    groups = [
      Group(self.prompts[name], tuple(self.finished[name][i] for i in range(size))) for name, size in self.sizes.items()
    ]
    for each in (self.queue, self.running, self.sizes, self.finished):
      each.clear()
    return groups

  def step(self):
    while self.queue and len(self.running) < self.slots:
      self.running.append(self.queue.popleft())
    before = self.stats.generated_tokens
    done = []
    for request in list(self.running):
      drawn = min(self.pace, request.length - len(request.versions))
      request.versions += [self.version] * drawn
      self.stats.generated_tokens += drawn
      if len(request.versions) == request.length:
        self.running.remove(request)
        name = (request.prompt.index, request.prompt.attempt)
        reason = FinishReason.LENGTH if request.length == self.cap else FinishReason.EOS
        self.finished[name][request.sample] = request.answer(reason)
        if len(self.finished[name]) == self.sizes[name]:
          answers = self.finished.pop(name)
          del self.sizes[name]
          done.append(Group(request.prompt, tuple(answers[i] for i in range(len(answers)))))
    self.stats.dispatches += 1
    self.stats.decode_steps += self.pace
    self.stats.slot_steps += self.pace * self.slots
    self.stats.idle_slot_steps += self.pace * self.slots - (self.stats.generated_tokens - before)
    return done

  def generate(self, prompts, group_size):
    for prompt in prompts:
      self.submit(prompt, group_size)
    done = {}
    while self.busy:
      done |= {(group.prompt.index, group.prompt.attempt): group for group in self.step()}
    return [done[prompt.index, prompt.attempt] for prompt in prompts]

  def take_stats(self):
    taken, self.stats = self.stats, EngineStats()
    return taken


def prompts(count):
  return [Prompt(i, (1, 2, 3), {"answer": "1"}) for i in range(count)]
