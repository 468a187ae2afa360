"""Makes Python's search for garbage cheap in a process that runs for long."""

import gc

_NEW_OBJECTS = 50_000  # between two searches; Python's 700 are made by a few requests


def collect_rarely() -> None:
  """Leaves out of all later searches what there is by now, and searches less often.

  What a process has loaded stays to its end. Looking through it, and through each few hundred new objects, took a tenth
  of a server's time.
  """
  gc.collect()
  gc.freeze()
  gc.set_threshold(_NEW_OBJECTS)
