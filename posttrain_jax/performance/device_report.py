"""Makes one report on a device: checks of numbers, and times of steps.

Steps are timed for several models and lengths of answers.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from posttrain_jax.models.config import Remat
from posttrain_jax.models.sizes import sizes
from posttrain_jax.performance import correctness, timing
from posttrain_jax.performance.chips import chip_of
from posttrain_jax.performance.formula import measured_step
from posttrain_jax.performance.time_budget import TimedPart, run_parts
from posttrain_jax.performance.work import Work
from posttrain_jax.types import InputError

CHECKS = "checks"


def shape_names(models: Sequence[str], cap: int) -> list[str]:
  """Names each model at two mean lengths: a quarter of the cap, and the cap.

  The smallest model comes first.
  """
  ordered = sorted(models, key=lambda model: sizes(model).num_params)
  return [f"{model}:{mean}" for model in ordered for mean in (max(1, cap // 4), cap)]


def measure_part(name: str, work: Callable[..., Work], remat: str, check_length: int) -> dict[str, Any]:
  """Measures one part on the first device of this process.

  Args:
    name: "checks", or MODEL:MEAN as `shape_names` makes them.
    work: makes the work of a model: `Work` with all but `model` and `mean_length` given.
    remat: what the backward pass computes again, a value of `Remat`.
    check_length: tokens of a row in the checks, a multiple of 4.

  Raises:
    InputError: if there are several devices, the name is not one of these, or the length is no multiple of 4.
  """
  if jax.device_count() != 1:
    raise InputError(f"found {jax.device_count()} devices, expected one (CUDA_VISIBLE_DEVICES=0 hides the others)")
  device = jax.devices()[0]
  where = {"device": device.device_kind, "platform": device.platform, "jax": jax.__version__}
  if name == CHECKS:
    if check_length < 4 or check_length % 4:
      raise InputError(f"--check_length={check_length}, expected a multiple of 4")
    return where | {"checks": correctness.checks(length=check_length)}
  model, _, mean = name.partition(":")
  if not mean.isdecimal():
    raise InputError(f"--part={name}: expected {CHECKS} or MODEL:MEAN_LENGTH")
  config = dataclasses.replace(sizes(model), compute_dtype="bfloat16", remat=Remat(remat))
  made = work(config, mean_length=int(mean))
  if made.mean_length >= made.new_tokens:
    made = dataclasses.replace(made, mean_length=0)  # every answer runs into the cap
  chip = chip_of(device.device_kind)
  found = measured_step(made, chip)
  return where | {"model": model, "mean_length": int(mean), **found, "peak_memory_gib": timing.peak_memory_gib()}


def report(
  models: Sequence[str],
  cap: int,
  seconds: float,
  command: Callable[[str], Sequence[str]],
  say: Callable[[str], None],
  **how: Any,
) -> dict[str, Any]:
  """Measures all parts in processes of their own, within some seconds.

  Args:
    models: names of `models.sizes`.
    cap: most tokens of an answer.
    seconds: for everything.
    command: returns the command that measures a part and prints its object as the last line.
    say: called with a line before each part.
    **how: further arguments of `run_parts`.

  Returns:
    The device, "checks", "shapes" (one object each), "left_out" (lines) and "passed": whether all checks passed.
  """
  names = shape_names(models, cap)
  parts = [TimedPart(CHECKS, command(CHECKS), 0)]
  parts += [TimedPart(name, command(name), sizes(name.partition(":")[0]).num_params) for name in names]
  outcome = run_parts(parts, seconds, say=say, **how)
  checked = outcome.found.get(CHECKS, {})
  where = next((each for each in outcome.found.values() if "device" in each), {})
  found = checked.get("checks", [])
  shapes = [{"part": name, **_without_device(outcome.found[name])} for name in names if name in outcome.found]
  return {
    **{name: where.get(name) for name in ("device", "platform", "jax")},
    "checks": found,
    **({"checks_error": checked["error"]} if "error" in checked else {}),
    "shapes": shapes,
    "left_out": outcome.left_out,
    "passed": bool(found) and all(check["passed"] for check in found),
  }


def _without_device(found: dict[str, Any]) -> dict[str, Any]:
  return {name: value for name, value in found.items() if name not in ("device", "platform", "jax")}
