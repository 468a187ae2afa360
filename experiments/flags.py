"""Parses the command line of every experiment, calls one pipeline, and sets the exit code.

    python -m experiments.dapo --config=configs/NAME.py[:arg] --config.x.y=value --workdir=DIR

Exit codes: 0 done; 2 bad configuration or input, with one line `error: ...` on stderr; 75 preempted after a checkpoint
(SIGTERM or Ctrl-C), run it again to go on; 130 Ctrl-C where there was nothing to save; 1 anything else: what keeps
a run from going on (a disk that fails, numbers that became NaN or infinite, a reward function that fails on all
answers) with one line `error: ...`, or another error with a traceback.

On several hosts the same command is started once on each, with `--distributed` and the same DIR, which all of them see:

    python -m experiments.dapo --config=... --workdir=DIR --distributed
    python -m experiments.dapo ... --coordinator=HOST:PORT --processes=2 --process=0   # where JAX finds no peers itself

All end with the same exit code, unless one of them is lost: then the others end with another one than 0, 2 and 75.

Logging starts at warnings; `--verbosity=0` shows what libraries say besides. Compiled programs are kept from run to run
in ~/.cache/posttrain_jax/xla: `JAX_COMPILATION_CACHE_DIR` names another directory, and none if it is empty.

Nothing here imports JAX, so that a wrong flag is answered at once.
"""

import copy
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from experiments import arguments, config_entries, config_help, flag_help, messages
from posttrain_jax.local_path import local_path
from posttrain_jax.runs.disk_failure import DiskFailure, disk_failure
from posttrain_jax.runs.preemption import Preempted

EXIT_BAD_INPUT = 2
EXIT_PREEMPTED = 75
EXIT_INTERRUPTED = 130


def run(
  main: Callable[[ml_collections.ConfigDict, str], None],
  default: str,
  *,
  needs_workdir: bool = True,
  recipe: bool = False,
  replays: bool = False,
  distributed: bool = False,
  argv: Sequence[str] | None = None,
) -> NoReturn:
  """Calls `main(config, workdir)` with what the command line says, and exits.

  Args:
    main: called with the locked config and the `--workdir` as given (None without one).
    default: which of configs/*.py stands in for `--config`, such as "tiny_dapo".
    needs_workdir: whether it is an error to leave `--workdir` out.
    recipe: whether the file is a recipe, given by `--recipe` instead; then `main` gets the file, as FILE.py[:arg], and
      the names that it defines, too.
    replays: whether there is a flag `--replay=DIR`, which becomes the config's field `replay`.
    distributed: whether there are the flags of a job of several processes, which are joined before `main` is called.
    argv: program name and arguments; None is the process's own.
  """

  def parse(args: Sequence[str]) -> tuple[ml_collections.ConfigDict, str | None]:
    name = "recipe" if recipe else "config"
    if arguments.option(args, name) is None:
      args = [args[0], f"--{name}={arguments.CONFIGS / default}.py", *args[1:]]
    args = [arguments.expanded(arg, name) for arg in args]
    file = arguments.option(args, name)
    base, defined = arguments.load(file, name)
    args, notes = config_entries.apply(arguments.without_option(args, name), base)
    flags.DEFINE_string("workdir", None, "directory of the run; an existing one is resumed")
    if replays:
      flags.DEFINE_string("replay", None, "workdir of a run whose stored groups are trained on, without sampling")
    if distributed:
      flags.DEFINE_bool("distributed", False, "this is one process of several, which JAX finds (Cloud TPU, GKE, Slurm)")
      flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where JAX does not find it itself")
      flags.DEFINE_integer("processes", None, "how many there are, where JAX does not know", lower_bound=1)
      flags.DEFINE_integer("process", None, "which of them this is, from 0 on, where JAX does not know", lower_bound=0)
    if _wants_help(args):
      more = (" [--replay=DIR]" if replays else "") + (" [--distributed]" if distributed else "")
      fields = config_help.lines(arguments.flatten(base), file)
      _print_help(
        f"--{name}=FILE.py[:arg] --config.FIELD=value --workdir=DIR{more}",
        [*flag_help.lines([*_flags_of(__name__), *_flags_of(sys.argv[0])]), "", *fields, "", config_entries.RULES],
      )
    arguments.check_overrides(args, base)
    try:
      config_flags.DEFINE_config_dict("config", copy.deepcopy(base), "experiment, FILE.py[:arg]", sys_argv=list(args))
      _parse_all(args)
    except flags.IllegalFlagValueError as error:
      raise arguments.wrong_type(error, base) from error
    arguments.check_elements(base, flags.FLAGS.config)
    for note in notes:
      print(f"note: {note}", file=sys.stderr)
    if needs_workdir and not flags.FLAGS.workdir:
      raise arguments.UsageError("--workdir: missing, expected a directory for the run's files")
    if replays and flags.FLAGS.replay is not None:
      if "replay" not in flags.FLAGS.config:
        raise arguments.UsageError(
          f"--replay={flags.FLAGS.replay}: the config has no field replay, expected one, as in {default}"
        )
      flags.FLAGS.config.replay = flags.FLAGS.replay
    workdir = flags.FLAGS.workdir
    more = (file, defined) if recipe else ()
    return flags.FLAGS.config, workdir and str(local_path(workdir, "--workdir")), *more

  def joined(*given) -> None:
    peers = flags.FLAGS.coordinator, flags.FLAGS.processes, flags.FLAGS.process
    if not flags.FLAGS.distributed and peers == (None, None, None):
      main(*given)
      return
    from posttrain_jax.parallel import processes

    with processes.joined(*peers, together=(Preempted,)):
      main(*given)

  _run(parse, joined if distributed else main, argv)


def run_plain(
  main: Callable[[], None],
  *,
  required: Sequence[str] = (),
  groups: flag_help.Groups | None = None,
  argv: Sequence[str] | None = None,
) -> NoReturn:
  """Calls `main()` of a program without a config after absl parsed its flags, and exits.

  Args:
    main: reads its flags itself.
    required: names of the flags that must be given.
    groups: which flags --help lists together, by a title; the others come first.
    argv: program name and arguments; None is the process's own.
  """

  def parse(args: Sequence[str]) -> tuple[()]:
    if _wants_help(args):
      usage = "".join(f"--{name}=... " for name in required)
      _print_help(f"{usage}[--FLAG=value]", flag_help.lines(_flags_of(sys.argv[0]), groups or {}, required))
    _parse_all(args)
    for name in required:
      if flags.FLAGS[name].value is None:
        raise arguments.UsageError(f"--{name}: missing, expected {flag_help.about(flags.FLAGS[name])}")
    return ()

  _run(parse, main, argv)


def _run(parse: Callable[[Sequence[str]], tuple], main: Callable[..., None], argv: Sequence[str] | None) -> NoReturn:
  def parse_or_exit(args: Sequence[str]) -> tuple:
    _keep_compiled_programs()  # before a config file may import JAX
    try:
      return parse(args)
    except (arguments.UsageError, config_entries.EntryError, flags.Error) as error:
      _fail(error)
    except ValueError as error:
      _fail_on_bad_input(error)
      raise

  def main_or_exit(given: tuple) -> None:
    messages.print_plainly()
    try:
      main(*given)
    except Preempted as error:
      print(f"preempted: {_one_line(error)}; run the same command again to go on", file=sys.stderr)
      sys.exit(EXIT_PREEMPTED)
    except KeyboardInterrupt:
      print("interrupted: run the same command again", file=sys.stderr)
      sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
      from posttrain_jax.types import RunFailed  # imports JAX, which a run did by now

      _fail_on_bad_input(error)
      failure = str(error) if isinstance(error, DiskFailure | RunFailed) else disk_failure(error)
      if failure is not None:
        _fail(failure, code=1)
      raise

  app.run(main_or_exit, argv=list(argv) if argv is not None else None, flags_parser=parse_or_exit)


def _fail(error: Exception | str, *, code: int = EXIT_BAD_INPUT) -> NoReturn:
  sys.stdout.flush()
  print(f"error: {_one_line(error)}", file=sys.stderr)
  sys.exit(code)


def _fail_on_bad_input(error: Exception) -> None:
  from posttrain_jax.types import InputError  # imports JAX, which the code that raised it did too

  if isinstance(error, InputError):
    _fail(error)


def _one_line(error: Exception | str) -> str:
  return " ".join(str(error).split())


def _parse_all(args: Sequence[str]) -> None:
  left = flags.FLAGS(args)[1:]
  if left:
    raise arguments.UsageError(f"found the argument {left[0]!r}, expected only options, --name=value")
  if flags.FLAGS["verbosity"].using_default_value:
    flags.FLAGS.verbosity = logging.WARNING  # app.run would make it INFO, at which Orbax fills the terminal


def _keep_compiled_programs() -> None:
  """Sets defaults for JAX's environment variables, which JAX reads at its import."""
  caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(caches, "posttrain_jax", "xla"))
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def _wants_help(args: Sequence[str]) -> bool:
  return any(name in ("help", "helpfull", "helpshort", "h", "?") for name, _ in arguments.options(args))


def _flags_of(module: str) -> list[flags.Flag]:
  """Returns the flags that a module defines; the program's is named by its path, argv[0]."""
  return flags.FLAGS.get_key_flags_for_module(module)


def _print_help(usage: str, lines: Iterable[str]) -> NoReturn:
  program = sys.modules["__main__"]
  spec = getattr(program, "__spec__", None)
  command = f"python -m {spec.name}" if spec is not None else f"python {sys.argv[0]}"
  print(f"{(program.__doc__ or '').strip()}\n\nusage: {command} {usage}\n")
  print(*lines, sep="\n")
  sys.exit(0)
