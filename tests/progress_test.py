from posttrain_jax import progress


def test_the_innermost_watcher_gets_the_reports():
  outer, inner = [], []
  progress.report("answers", 0, 1)  # nobody watches: nothing happens
  with progress.watched(lambda *report: outer.append(report)):
    progress.report("answers", 1, 4)
    with progress.watched(lambda *report: inner.append(report)):
      progress.report("updates", 2, 3)
    progress.report("answers", 4, 4)
  progress.report("answers", 5, 5)
  assert outer == [("answers", 1, 4), ("answers", 4, 4)] and inner == [("updates", 2, 3)]
