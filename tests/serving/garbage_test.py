import gc

from posttrain_jax.serving.garbage import collect_rarely


def test_what_is_there_is_looked_through_no_more_and_new_cycles_are_still_found():
  before = gc.get_threshold()
  try:
    collect_rarely()
    assert gc.get_freeze_count() > 10_000 and gc.get_threshold()[0] > before[0]
    cycle = []
    cycle.append(cycle)
    del cycle
    assert gc.collect() >= 1
  finally:
    gc.unfreeze()
    gc.set_threshold(*before)
