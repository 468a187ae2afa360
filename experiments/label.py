"""Lets people rate answers on a local page, and exports what they said.

    python -m experiments.label --input=FILE.jsonl --workdir=DIR --kind=pairs|ranking|demonstrations|accept
    python -m experiments.label --workdir=DIR              # goes on
    python -m experiments.label --workdir=DIR --export     # writes DIR/export, also while raters go on

The links of the raters are printed. Each label is on disk before the next item is shown. docs/labelling.md says which
rows are read and written. With --export the last line printed is one JSON object. Ctrl-C ends the server. Exit codes:
0 done, 2 bad input, 1 anything else.
"""

import json

from absl import flags as absl_flags

from experiments import flags

_WORKDIR = absl_flags.DEFINE_string("workdir", None, "directory of the study; an existing one is resumed")
_EXPORT = absl_flags.DEFINE_bool("export", False, "write what raters said so far, and end")
_INPUT = absl_flags.DEFINE_string("input", None, "rows to rate: FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT")
_KIND = absl_flags.DEFINE_enum("kind", None, ["pairs", "ranking", "demonstrations", "accept"], "what raters do")
_INSTRUCTIONS = absl_flags.DEFINE_string("instructions", None, "FILE.md that raters are shown")
_TIES = absl_flags.DEFINE_bool("ties", False, "whether two answers may be about the same")
_EDITS = absl_flags.DEFINE_bool("edits", True, "whether the preferred or accepted answer may be edited")
_MOST_CHARACTERS = absl_flags.DEFINE_integer("most_characters", 20_000, "limit on a text that a rater writes")
_RATERS = absl_flags.DEFINE_list("raters", ["rater"], "names of the raters, with commas between them")
_OVERLAP = absl_flags.DEFINE_integer("overlap", 1, "raters who see an item", lower_bound=1)
_CHECKS = absl_flags.DEFINE_string("checks", None, "rows whose right label is known, hidden among the others")
_CHECK_EVERY = absl_flags.DEFINE_integer("check_every", 0, "items for one check; 0: no checks", lower_bound=0)
_SEED = absl_flags.DEFINE_integer("seed", 0, "of who rates what, in which order, and of the sides")
_HOST = absl_flags.DEFINE_string("host", "127.0.0.1", "where to listen; other machines need a token")
_PORT = absl_flags.DEFINE_integer("port", 8030, "where to listen; 0: a free port", lower_bound=0, upper_bound=65535)
_TOKEN_FILE = absl_flags.DEFINE_string("token_file", None, "file with a secret that the raters' keys are made from")
_IDLE_SECONDS = absl_flags.DEFINE_float("idle_seconds", 300, "bound on the time for an item", lower_bound=1)
_STARTS = [_INPUT, _KIND, _INSTRUCTIONS, _TIES, _EDITS, _MOST_CHARACTERS, _SEED]
_GROUPS = {
  "what is rated, and how; given when a study starts": _STARTS,
  "who rates; given when a study starts": [_RATERS, _OVERLAP, _CHECKS, _CHECK_EVERY],
  "where raters connect": [_HOST, _PORT, _TOKEN_FILE],
  "with --export": [_IDLE_SECONDS],
}


def main():
  from posttrain_jax.labelling import export, study
  from posttrain_jax.serving.access import check_binding, read_token
  from posttrain_jax.serving.extra import check_installed
  from posttrain_jax.types import InputError

  if _EXPORT.value:
    print(json.dumps(export.export(study.load(_WORKDIR.value), idle_seconds=_IDLE_SECONDS.value)))
    return
  check_installed("experiments.label")
  token = read_token(_TOKEN_FILE.value)
  check_binding(_HOST.value, token)
  if _INPUT.value is not None:
    if _KIND.value is None:
      raise InputError("--kind: missing, expected what raters do with the rows of --input")
    found, left_out = study.start(
      _WORKDIR.value, _settings(), path=_INPUT.value, checks=_CHECKS.value, instructions=_INSTRUCTIONS.value
    )
    if left_out:
      print(f"note: {left_out} rows whose answers are equal or empty are left out", flush=True)
  else:
    for group in ("what is rated, and how; given when a study starts", "who rates; given when a study starts"):
      for flag in _GROUPS[group]:
        if absl_flags.FLAGS[flag.name].present:
          raise InputError(f"--{flag.name}: given without --input, expected both to start a study, or neither to go on")
    found = study.load(_WORKDIR.value)
  from posttrain_jax.labelling import server

  server.serve(found, host=_HOST.value, port=_PORT.value, token=token, tell=lambda line: print(line, flush=True))


def _settings():
  from posttrain_jax.labelling.items import RatingKind
  from posttrain_jax.labelling.study import StudySettings

  return StudySettings(
    kind=RatingKind(_KIND.value),
    raters=tuple(name.strip() for name in _RATERS.value),
    overlap=_OVERLAP.value,
    check_every=_CHECK_EVERY.value,
    ties=_TIES.value,
    edits=_EDITS.value,
    most_characters=_MOST_CHARACTERS.value,
    seed=_SEED.value,
  )


if __name__ == "__main__":
  flags.run_plain(main, required=["workdir"], groups=_GROUPS)
