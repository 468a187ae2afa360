"""Makes collectors with a scripted engine and verifier.

A prompt's name decides how long its answers are and whether they are right.
"""

import dataclasses
import json
import random
import time

import numpy as np

from posttrain_jax.data.stream import PromptStream
from posttrain_jax.rollouts.collector import Collector
from posttrain_jax.rollouts.dynamic_sampling import Admission, AtCap, DynamicSamplingSettings, Informative
from tests.pipelines.scripted_engine import ScriptedEngine, prompts

GROUP_SIZE = 4


def seeded(*names):
  return random.Random("/".join(map(str, names)))


def geometric_length(prompt, sample):
  """Draws a length with mean about 16, independent of correctness."""
  return 1 + int(seeded("length", prompt.index, sample, prompt.attempt).expovariate(1 / 15))


def is_right(prompt, sample, rate):
  return seeded("right", prompt.index, sample, prompt.attempt).random() < rate(prompt)


def difficulty(prompt):
  """Returns a prompt's pass rate: 0 for a third of the prompts, 1/2 for a third, 1 for a third."""
  return (0.0, 0.5, 1.0)[seeded("rate", prompt.index).randrange(3)]


def judge_by(rate=difficulty, invalid=lambda prompt, sample: False, delay=0.0):
  def judge(groups):
    if delay:
      time.sleep(random.random() * delay)
    judged = []
    for group in groups:
      right = np.array([is_right(group.prompt, s, rate) for s in range(len(group.answers))], np.float32)
      valid = np.array([not invalid(group.prompt, s) for s in range(len(group.answers))])
      # The shaped reward differs within every group, which must make no group informative.
      rewards = right - 0.01 * group.lengths.astype(np.float32)
      texts = ("",) * len(group.answers)
      judged.append(
        dataclasses.replace(group, texts=texts, components={"x": right}, accuracy=right, rewards=rewards, valid=valid)
      )
    return judged

  return judge


def make_settings(**changes):
  settings = DynamicSamplingSettings(
    enabled=True,
    admission=Admission.DRAIN,
    max_prompts=400,
    at_cap=AtCap.ERROR,
    max_staleness=1,
    verdict_delay=1,
    batch_factor=3,
    retire_after=0,
    informative=Informative.MIXED,
    right_above=0.5,
  )
  return dataclasses.replace(settings, **changes)


def make(mode=Admission.DRAIN, *, groups=8, rate=difficulty, count=500, length=geometric_length, slots=16, **options):
  judge = judge_by(rate, options.pop("invalid", lambda prompt, sample: False), options.pop("delay", 0.0))
  settings = make_settings(admission=mode, **options)
  engine = ScriptedEngine(length, slots=slots)
  stream = PromptStream(prompts(count), seed=3)
  return Collector(engine, stream, judge, groups=groups, group_size=GROUP_SIZE, settings=settings)


def collect(collector, steps, *, version=0):
  """Collects `steps` steps, each under parameters one version newer."""
  found = []
  for step in range(steps):
    collector.engine.version = version + step
    found.append(collector.collect())
  return found


def names(groups):
  return [(group.prompt.index, group.prompt.attempt) for group in groups]


def judged_names(collected):
  return names([group for group, _ in collected.judged])


def stream_names(n, count=500):
  """Names the first prompts of the stream that `make` draws from."""
  return names_of(PromptStream(prompts(count), seed=3).next(n))


def names_of(drawn):
  return [(prompt.index, prompt.attempt) for prompt in drawn]


def saved(collector, path):
  """Returns what a checkpoint has of a collector.

  That is its JSON state, and its files under `path`.
  """
  for name, content in collector.saved_files().items():
    (path / name).write_bytes(content())
  return json.loads(json.dumps(collector.state()))
