import subprocess
import sys

PROGRAM = """
import logging, warnings
from absl import logging as absl_logging
from experiments import flags

def main():
  absl_logging.warning("dropped %d of %d prompts", 2, 9)
  absl_logging.info("not shown")
  logging.getLogger("orbax.checkpoint").warning("slow")
  warnings.warn("old")

flags.run_plain(main, argv=["program"])
"""


def test_warnings_are_plain_lines():
  done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
  lines = ["warning: dropped 2 of 9 prompts", "warning: orbax: slow", "warning: old (UserWarning)"]
  assert (done.returncode, done.stdout, done.stderr.splitlines()) == (0, "", lines)
