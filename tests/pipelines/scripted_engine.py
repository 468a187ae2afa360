"""An engine without a model: lengths and correctness of answers are functions of (prompt, sample, attempt)."""

import collections

import numpy as np

from posttrain_jax.sampling.engine import EngineStats
from posttrain_jax.types import Answer, FinishReason, Group, Prompt


class ScriptedEngine:
  """Runs `slots` answers at a time, `pace` tokens of each per step, as the real engine does."""

  def __init__(self, length, *, slots=16, pace=4, cap=64):
    self.length, self.slots, self.pace, self.cap, self.version = length, slots, pace, cap, 0
    self.stats, self.queue, self.running = EngineStats(), collections.deque(), []
    self.finished, self.most_open, self.sizes = {}, 0, {}

  @property
  def busy(self):
    return bool(self.queue or self.running)

  def submit(self, prompt, group_size):
    name = (prompt.index, prompt.attempt)
    assert name not in self.sizes, "under way already"
    self.sizes[name], self.finished[name] = group_size, {}
    self.queue.extend((prompt, sample, [min(self.cap, self.length(prompt, sample))]) for sample in range(group_size))
    self.most_open = max(self.most_open, len(self.sizes))

  def step(self):
    while self.queue and len(self.running) < self.slots:
      self.running.append(self.queue.popleft())
    done = []
    for request in list(self.running):
      prompt, sample, left = request
      left[0] -= self.pace
      if left[0] <= 0:
        self.running.remove(request)
        n, name = min(self.cap, self.length(prompt, sample)), (prompt.index, prompt.attempt)
        self.stats.generated_tokens += n
        reason = FinishReason.LENGTH if n == self.cap else FinishReason.EOS
        versions = np.full((n,), self.version, np.int32)
        logprobs = np.full((n,), -1.0, np.float32)
        self.finished[name][sample] = Answer(np.ones((n,), np.int32), logprobs, logprobs, versions, reason)
        if len(self.finished[name]) == self.sizes[name]:
          answers = self.finished.pop(name)
          del self.sizes[name]
          done.append(Group(prompt, tuple(answers[i] for i in range(len(answers)))))
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
