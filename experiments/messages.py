"""Prints log messages as plain lines, `warning: ...`, where absl would put its prefix before them."""

import logging
import sys
import warnings

from absl import logging as absl_logging


class _Lines(logging.Handler):
  """Prints each message as a line on stderr, above a progress bar if one is shown."""

  def emit(self, record: logging.LogRecord) -> None:
    try:
      library = record.name.partition(".")[0]
      source = "" if library in ("absl", "root", "py") else f"{library}: "
      text = record.getMessage()
      if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
      print(f"{record.levelname.lower()}: {source}{text}", file=sys.stderr)  # stderr of now: a bar replaces it
    except Exception:
      self.handleError(record)


def print_plainly() -> None:
  """Replaces absl's handler of log messages; Python's own warnings are printed in the same form."""
  root = logging.getLogger()
  root.removeHandler(absl_logging.get_absl_handler())
  if not any(isinstance(handler, _Lines) for handler in root.handlers):
    root.addHandler(_Lines())
  warnings.formatwarning = lambda message, category, *_: f"warning: {message} ({category.__name__})\n"
