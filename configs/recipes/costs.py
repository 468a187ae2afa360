"""Holds what recipes begin with, above all the price list: people's minutes for labels, and chips.

Prices are rounded list prices on demand for one chip; they change, so put in your own. The chapter's DeepSeek-V3 counts
2 dollars for an hour of an H800.
"""

from ml_collections import ConfigDict


def costs() -> ConfigDict:
  return ConfigDict(
    dict(
      fill=0.5,  # expected length of answers and rows before they exist, as a share of their limit
      minutes=dict(  # a person's minutes for one label of a kind
        demonstration=15.0,  # writes an answer
        comparison=3.0,  # reads the answers to a prompt and orders them
        check=2.0,  # looks whether an answer is right
      ),
      dollars_per_hour=20.0,  # of a person who labels
      chips=dict(  # kinds of accelerators
        h100=dict(
          tflops=989.0,  # peak in bfloat16, 10^12 FLOPs a second
          training_use=0.4,  # share of the peak that updates reach
          sampling_use=0.1,  # share of the peak that drawing answers reaches; memory, not arithmetic, is its limit
          dollars_per_hour=2.0,  # of one chip
        ),
        v5e=dict(tflops=197.0, training_use=0.4, sampling_use=0.1, dollars_per_hour=1.2),
        v5p=dict(tflops=459.0, training_use=0.4, sampling_use=0.1, dollars_per_hour=4.2),
      ),
      here=0.1,  # dollars for an hour of the machine that this runs on
    )
  )


def started(arg: str, *variants: str) -> ConfigDict:
  """Checks a recipe's argument, and returns a config with what every variant has.

  Raises:
    ValueError: if the argument is neither empty nor one of the variants.
  """
  if arg not in ("", *variants):
    raise ValueError(f"{arg!r}, expected {', '.join(variants[:-1])} or {variants[-1]}")
  config = ConfigDict()
  config.seed = 0  # seed of all stages after the base models
  config.costs = costs()
  return config
