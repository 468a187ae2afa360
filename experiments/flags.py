"""Parses the command line of every experiment, calls one pipeline, and sets the exit code.

    python -m experiments.dapo --config=configs/NAME.py[:arg] --config.x.y=value --workdir=DIR

Exit codes: 0 done; 2 bad configuration or input, with one line `error: ...` on stderr; 75 preempted after a checkpoint
(SIGTERM or Ctrl-C), run it again to go on; 130 Ctrl-C where there was nothing to save; 1 anything else: a disk that
fails or numbers that became NaN or infinite, with one line `error: ...`, or another error with a traceback.

On several hosts the same command is started once on each, with `--distributed` and the same DIR, which all of them see:

    python -m experiments.dapo --config=... --workdir=DIR --distributed
    python -m experiments.dapo ... --coordinator=HOST:PORT --processes=2 --process=0   # where JAX finds no peers itself

All end with the same exit code, unless one of them is lost: then the others end with another one than 0, 2 and 75.

Logging starts at warnings; `--verbosity=0` shows what libraries say besides. Compiled programs are kept from run to run
in ~/.cache/posttrain_jax/xla: `JAX_COMPILATION_CACHE_DIR` names another directory, and none if it is empty.

Nothing here imports JAX, so that a wrong flag is answered at once.
"""

import copy
import difflib
import os
import pathlib
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from experiments import config_entries, config_help, messages
from posttrain_jax.local_path import local_path
from posttrain_jax.runs.disk_failure import DiskFailure, disk_failure
from posttrain_jax.runs.preemption import Preempted

EXIT_BAD_INPUT = 2
EXIT_PREEMPTED = 75
EXIT_INTERRUPTED = 130
_CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"


class _UsageError(Exception):
  """Says in one line what is wrong with the command line."""


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
    option = "recipe" if recipe else "config"
    if _option(args, option) is None:
      args = [args[0], f"--{option}={_CONFIGS / default}.py", *args[1:]]
    args = [_expanded(arg, option) for arg in args]
    file = _option(args, option)
    base, names = _load(file, option)
    args, notes = config_entries.apply(_without_option(args, option), base)
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
      _print_help(f"--{option}=FILE.py[:arg] --config.FIELD=value --workdir=DIR{more}", base, file)
    _check_overrides(args, base)
    try:
      config_flags.DEFINE_config_dict("config", copy.deepcopy(base), "experiment, FILE.py[:arg]", sys_argv=list(args))
      _parse_all(args)
    except flags.IllegalFlagValueError as error:
      raise _wrong_type(error, base) from error
    _check_elements(base, flags.FLAGS.config)
    for note in notes:
      print(f"note: {note}", file=sys.stderr)
    if needs_workdir and not flags.FLAGS.workdir:
      raise _UsageError("--workdir: missing, expected a directory for the run's files")
    if replays and flags.FLAGS.replay is not None:
      if "replay" not in flags.FLAGS.config:
        raise _UsageError(
          f"--replay={flags.FLAGS.replay}: the config has no field replay, expected one, as in {default}"
        )
      flags.FLAGS.config.replay = flags.FLAGS.replay
    workdir = flags.FLAGS.workdir
    more = (file, names) if recipe else ()
    return flags.FLAGS.config, workdir and str(local_path(workdir, "--workdir")), *more

  def joined(*arguments) -> None:
    given = flags.FLAGS.coordinator, flags.FLAGS.processes, flags.FLAGS.process
    if not flags.FLAGS.distributed and given == (None, None, None):
      main(*arguments)
      return
    from posttrain_jax.parallel import processes

    with processes.joined(*given, together=(Preempted,)):
      main(*arguments)

  _run(parse, joined if distributed else main, argv)


def run_plain(main: Callable[[], None], *, argv: Sequence[str] | None = None) -> NoReturn:
  """Calls `main()` of a program without a config after absl parsed its flags, and exits."""

  def parse(args: Sequence[str]) -> tuple[()]:
    if _wants_help(args):
      _print_help("[--FLAG=value]", None)
    _parse_all(args)
    return ()

  _run(parse, main, argv)


def _run(parse: Callable[[Sequence[str]], tuple], main: Callable[..., None], argv: Sequence[str] | None) -> NoReturn:
  def parse_or_exit(args: Sequence[str]) -> tuple:
    _keep_compiled_programs()  # before a config file may import JAX
    try:
      return parse(args)
    except (_UsageError, config_entries.EntryError, flags.Error) as error:
      _fail(error)
    except ValueError as error:
      _fail_on_bad_input(error)
      raise

  def main_or_exit(arguments: tuple) -> None:
    messages.print_plainly()
    try:
      main(*arguments)
    except Preempted as error:
      print(f"preempted: {_one_line(error)}; run the same command again to go on", file=sys.stderr)
      sys.exit(EXIT_PREEMPTED)
    except KeyboardInterrupt:
      print("interrupted: run the same command again", file=sys.stderr)
      sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
      from posttrain_jax.types import NotFinite  # imports JAX, which a run did by now

      _fail_on_bad_input(error)
      failure = str(error) if isinstance(error, DiskFailure | NotFinite) else disk_failure(error)
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


def _options(args: Sequence[str]) -> Iterator[tuple[str, str | None]]:
  """Yields (name, value) of each option before a bare `--`.

  If a value is None, it may be the next argument.
  """
  for arg in args[1:]:
    if arg == "--":
      return
    match = re.fullmatch(r"--?([A-Za-z][^=]*)(?:=(.*))?", arg, re.DOTALL)
    if match:
      yield match[1], match[2]


def _option(args: Sequence[str], name: str) -> str | None:
  """Returns the last value of an option, `--name=value` or `--name value`; None without one."""
  found = None
  for index, arg in enumerate(args):
    if arg == "--":
      break
    if arg in (f"--{name}", f"-{name}"):
      if index + 1 == len(args):
        raise _UsageError(f"--{name}: found no value, expected one")
      found = args[index + 1]
    elif arg.startswith((f"--{name}=", f"-{name}=")):
      found = arg.split("=", 1)[1]
  return found


def _without_option(args: Sequence[str], name: str) -> list[str]:
  """Returns the arguments without an option, whose value may be an argument of its own."""
  left, rest = [], list(args)
  while rest:
    arg = rest.pop(0)
    if arg == "--":
      return [*left, arg, *rest]
    if arg in (f"--{name}", f"-{name}"):
      rest.pop(0)
    elif not arg.startswith((f"--{name}=", f"-{name}=")):
      left.append(arg)
  return left


def _look_for_modules_in(folder: str) -> None:
  """Lets Python find modules in a folder too, after all others."""
  if os.path.abspath(folder) not in map(os.path.abspath, sys.path):
    sys.path.append(os.path.abspath(folder))


def _expanded(arg: str, option: str) -> str:
  """Expands `~` in --config=FILE.py[:arg], which the shell leaves, and finds the package's own configs/NAME.py."""
  match = re.fullmatch(rf"(--?{option}=)([^:]*)(.*)", arg, re.DOTALL)
  if match is None:
    return arg
  local_path(match[2] + match[3], f"--{option}")  # refuses gs://
  file = local_path(match[2], f"--{option}")
  own = _CONFIGS.parent / file
  if not file.exists() and file.parts[:1] == (_CONFIGS.name,) and own.is_file():
    file = own  # the package's own config, named as in the documentation, from another directory
  return f"{match[1]}{file}{match[3]}"


def _parse_all(args: Sequence[str]) -> None:
  left = flags.FLAGS(args)[1:]
  if left:
    raise _UsageError(f"found the argument {left[0]!r}, expected only options, --name=value")
  if flags.FLAGS["verbosity"].using_default_value:
    flags.FLAGS.verbosity = logging.WARNING  # app.run would make it INFO, at which Orbax fills the terminal


def _keep_compiled_programs() -> None:
  """Sets defaults for JAX's environment variables, which JAX reads at its import."""
  caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(caches, "posttrain_jax", "xla"))
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def _load(argument: str, option: str = "config") -> tuple[ml_collections.ConfigDict, dict[str, Any]]:
  """Loads `FILE.py[:arg]`: its config without overrides, and the names that it defines.

  absl would wrap what the file raises into long messages.
  """
  path, *arg = argument.split(":", 1)
  path = os.path.expanduser(path)
  if os.path.isdir(path):
    raise _UsageError(f"--{option}={argument}: {path} is a directory, expected a file FILE.py")
  if not os.path.isfile(path):
    raise _UsageError(f"--{option}={argument}: there is no file {path}")
  _look_for_modules_in(os.getcwd())
  _look_for_modules_in(os.path.dirname(path))
  try:
    module = runpy.run_path(path)
    if "get_config" not in module:
      raise _UsageError(f"{path}: found no function get_config, expected one that returns ml_collections.ConfigDict")
    config = module["get_config"](*arg)
  except _UsageError:
    raise
  except Exception as error:  # the file may raise anything
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else 1
    raise _UsageError(f"{path}:{line}: {type(error).__name__}: {error}") from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise _UsageError(f"{path}: get_config returned {type(config).__name__}, expected ml_collections.ConfigDict")
  return config, module


def _flatten(config: ml_collections.ConfigDict, prefix: str = "") -> dict[str, Any]:
  """Returns dotted name → value of every field that is not a group."""
  fields = {}
  for name in config:
    value = config[name]
    is_group = isinstance(value, ml_collections.ConfigDict)
    fields |= _flatten(value, f"{prefix}{name}.") if is_group else {f"{prefix}{name}": value}
  return fields


def _check_overrides(args: Sequence[str], base: ml_collections.ConfigDict) -> None:
  """Refuses a `--config.x.y` that is no field and names the closest one; absl does not."""
  fields = _flatten(base)
  for name, _ in _options(args):
    field = re.sub(r"^(no)?config\.", "", name)
    if field == name:
      continue
    sequence, index = re.fullmatch(r"(.*?)(?:\[(\d+)\])?", field).groups()
    if sequence not in fields:
      if any(known.startswith(f"{field}.") for known in fields):
        raise _UsageError(f"--config.{field}: is a group of fields, expected one of them, --config.{field}.NAME=value")
      close = difflib.get_close_matches(field, fields, n=1, cutoff=0.0)
      raise _UsageError(
        f"--config.{field}: there is no such config field, the closest is {', '.join(close) or 'none'}"
        f"{config_entries.hint(field)}"
      )
    if index is not None and not (isinstance(fields[sequence], list) and int(index) < len(fields[sequence])):
      raise _UsageError(f"--config.{field}: found an index, expected --config.{sequence}=value with the whole value")
    if _field_type(base, sequence) is type(None):
      raise _UsageError(f"--config.{field}: is None in the config file and has no type, expected a placeholder there")


def _field_type(base: ml_collections.ConfigDict, name: str) -> type:
  """Returns the type of a field; of a placeholder its declared type."""
  *groups, last = name.split(".")
  for group in groups:
    base = base[group]
  return base.get_type(last)


def _wrong_type(error: flags.IllegalFlagValueError, base: ml_collections.ConfigDict) -> Exception:
  """Rewords absl's error about a value, with the type of the config field."""
  match = re.match(r"flag --config\.([^=]+)=(.*?): ", str(error), re.DOTALL)
  if match is None or match[1] not in _flatten(base):
    return error
  return _UsageError(f"--config.{match[1]}: found {match[2]!r}, expected {_field_type(base, match[1]).__name__}")


def _check_elements(base: ml_collections.ConfigDict, config: ml_collections.ConfigDict) -> None:
  """Refuses elements of another type than in the config file; absl checks the sequence only."""
  before = _flatten(base)
  for name, value in _flatten(config).items():
    if isinstance(value, (tuple, list)) and len({type(item) for item in before[name] or ()}) == 1:
      expected = type(before[name][0])
      for item in value:
        if type(item) is not expected and (expected, type(item)) != (float, int):
          raise _UsageError(f"--config.{name}={value}: found {item!r}, expected {expected.__name__}")


def _wants_help(args: Sequence[str]) -> bool:
  return any(name in ("help", "helpfull", "helpshort", "h", "?") for name, _ in _options(args))


def _print_help(options: str, config: ml_collections.ConfigDict | None, file: str = "") -> NoReturn:
  program = sys.modules["__main__"]
  spec = getattr(program, "__spec__", None)
  command = f"python -m {spec.name}" if spec is not None else f"python {sys.argv[0]}"
  print(f"{(program.__doc__ or '').strip()}\n\nusage: {command} {options}\n")
  if config is None:
    print(flags.FLAGS.main_module_help())
  else:
    print(*config_help.lines(_flatten(config), file), sep="\n")
    print(f"\n{config_entries.RULES}")
  sys.exit(0)
