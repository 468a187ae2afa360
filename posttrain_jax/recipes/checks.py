"""Makes the checks of stages' configs, which are made before anything runs."""

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ml_collections import ConfigDict

from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError


def check_of(record: type, needed: Mapping[str, str] = MappingProxyType({})) -> Callable[[ConfigDict], None]:
  """Makes the check of a config that fills a record.

  Args:
    record: the record; the check raises InputError if a field is unknown, missing or of another type.
    needed: fields that a recipe may leave empty and a stage needs, such as `model.path`, to what is expected there; the
      check raises InputError if one is empty.
  """

  def check(config: ConfigDict) -> None:
    settings = parse(record, config)
    for field, expected in needed.items():
      given = operator.attrgetter(field)(settings)
      if not given:
        raise InputError(f"{field}: {'empty' if given == '' else 'found none'}, expected {expected}")

  return check
