"""Tests how many calls a share makes and what failures may cost.

The worker and the clock are made up.
"""

import pytest

from posttrain_jax.rewards import worker_share
from posttrain_jax.rewards.worker_share import Limits, Share

DEFAULT = Limits(answer_seconds=10.0, batch_seconds=60.0)


class MadeUp:
  """Stands in for a worker.

  Its answers are "SECONDS", "hang", "SECONDS crash" or "SECONDS raise".
  """

  def __init__(self, start_seconds=0.0):
    self.now, self.failures, self.calls, self.limits = 0.0, 0, [], []
    self._start_seconds, self._gone = start_seconds, False

  def call(self, function, texts, rows, seconds):
    assert len(texts) == len(rows)
    self.calls.append(len(texts))
    self.limits.append(seconds)
    self.now += self._start_seconds if self._gone else 0
    self._gone = False
    left = seconds
    for text in texts:
      takes, _, fate = text.partition(" ") if text != "hang" else ("inf", "", "")
      if float(takes) > left:
        self.now += left
        return self._lose("timed out")
      self.now += float(takes)
      left -= float(takes)
      if fate == "crash":
        return self._lose("died")
      if fate == "raise":
        return None, "raised"
    return [float(function)] * len(texts), ""

  def _lose(self, why):
    self.failures, self._gone = self.failures + 1, True
    return None, why


@pytest.fixture
def judge(monkeypatch):
  def run(texts, limits=DEFAULT, **options):
    worker, share = MadeUp(**options), Share(texts, [{}] * len(texts))
    monkeypatch.setattr(worker_share.time, "monotonic", lambda: worker.now)
    share.judge(worker, 1, limits)
    assert share.done == len(texts)
    return worker, share

  return run


def failed(share):
  return [index for index, reward in enumerate(share.rewards) if reward != reward]  # NaN


def test_a_sound_batch_is_never_cut_off(judge):
  worker, share = judge(["0.01"] * 1000, Limits(answer_seconds=5.0, batch_seconds=5.0))
  assert worker.failures == 0 and share.rewards == [1.0] * 1000 and share.failures == []
  assert worker.now == pytest.approx(10.0)
  worker, share = judge(["9.9"] * 13)  # nearly the limit, each of them: six of them fit in a call of a minute
  assert (worker.calls, worker.failures, failed(share)) == ([6, 6, 1], 0, [])
  assert worker.limits == [60.0, 60.0, 10.0]
  assert judge(["0"] * 4, Limits(answer_seconds=10.0, batch_seconds=1.0))[0].calls == [1] * 4
  assert judge(["0"] * 7, Limits(answer_seconds=0.1, batch_seconds=0.7))[0].calls == [7]  # whatever 0.7 / 0.1 is
  assert judge([])[0].calls == []


def test_an_exception_costs_the_answers_of_its_call_one_more_call_each(judge):
  worker, share = judge(["0"] * 7 + ["0 raise"] + ["0"] * 10)
  assert worker.calls == [6, 6, 1, 1, 1, 1, 1, 1, 6] and failed(share) == [7]
  assert share.failures == ["raised", "raised"]


@pytest.mark.parametrize("fate", ["hang", "0 crash"])
def test_after_a_loss_all_others_are_asked_for_alone(judge, fate):
  texts = ["0.01"] * 30
  texts[7] = texts[20] = fate
  worker, share = judge(texts)
  assert worker.calls == [6, 6] + [1] * 24 and failed(share) == [7, 20] and worker.failures == 3
  assert worker.now <= 60 + 2 * 10 + 0.4


def test_a_function_that_hangs_on_everything_is_given_up_soon(judge):
  worker, share = judge(["hang"] * 128)
  assert worker.now == 60 + 3 * 10 and len(failed(share)) == 128
  assert share.failures[-1] == "timed out; 125 answers were given up, as many others failed like this"
  assert judge(["hang"] * 128, Limits(answer_seconds=2.0, batch_seconds=2.0))[0].now == 2 + 3 * 2
  assert judge(["hang"] * 3)[0].now == 3 * 10 + 3 * 10  # and a small one is tried to the end


def test_a_function_that_has_given_verdicts_is_not_given_up_after_three(judge):
  _, share = judge(["0.01"] * 6 + ["hang"] * 5 + ["0.01"])
  assert failed(share) == [6, 7, 8, 9, 10]


def test_the_answers_to_one_prompt_may_all_hang(judge):
  texts = ["0.01"] * 128
  texts[16:32] = ["hang"] * 16
  worker, share = judge(texts)
  assert failed(share) == list(range(16, 32))
  # 60 s for the call, 6 answers for 60 s, then the limit is 20 times the slowest sound answer.
  assert worker.now == pytest.approx(60 + 60 + 10 * 0.2 + 1.3, abs=0.5)
  assert min(worker.limits) == pytest.approx(0.2)


@pytest.mark.parametrize("start_seconds", [0.0, 1.5])
@pytest.mark.parametrize("bad", ["hang", "0.2 crash", "9 raise"])
def test_the_whole_wait_is_bounded(judge, bad, start_seconds):
  texts = [bad if index % 2 else "0.05" for index in range(1024)]
  worker, share = judge(texts, start_seconds=start_seconds)
  sound = 0.05 * 512 * 2  # in calls that fail as well
  assert worker.now <= sound + 60 + 2 * 60 + 10 + start_seconds
  assert "were given up" in share.failures[-1] or len(failed(share)) == 512


def test_the_limit_stays_while_nothing_is_known_of_sound_answers(judge):
  worker, _ = judge(["hang", "0 raise"] * 20, Limits(answer_seconds=1.0, batch_seconds=1.0))
  assert set(worker.limits) == {1.0}
