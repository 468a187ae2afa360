import dataclasses
import enum

import ml_collections
import pytest

from posttrain_jax.runs.settings import at_least, build, convert
from posttrain_jax.types import InputError


class Color(enum.StrEnum):
  RED = "red"
  BLUE = "blue"


@dataclasses.dataclass(frozen=True)
class Inner:
  level: str = "token"
  high: float = 2.0

  def __post_init__(self):
    if self.high <= 0:
      raise InputError(f"inner.high: {self.high}, expected more than 0")


@dataclasses.dataclass(frozen=True)
class Record:
  count: int
  rate: float = 0.5
  color: Color = Color.RED
  inner: Inner = Inner()
  scaling: Inner | None = None
  share: float | None = None
  on: bool = True
  stop_ids: tuple[int, ...] = ()


def made(given=None, **values):
  return build(Record, ml_collections.ConfigDict(values), "section", **(given or {}))


def test_values_become_the_types_of_the_fields():
  record = made({"stop_ids": (1, 2)}, count=3, rate=1, color="blue", inner={"level": "off", "high": 3}, share=2)
  assert record == Record(3, 1.0, Color.BLUE, Inner("off", 3.0), None, 2.0, True, (1, 2))
  assert isinstance(record.rate, float) and isinstance(record.share, float) and isinstance(record.inner.high, float)
  assert record.color is Color.BLUE


def test_optional_fields():
  assert made(count=1, scaling=None).scaling is None
  assert made(count=1, scaling={"high": 4.0}).scaling == Inner(high=4.0)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"cuont": 3}, "section.cuont: unknown, expected one of color, count, inner, on, rate, scaling, share"),
    ({"count": 3.0}, "section.count: 3.0, expected int"),
    ({"count": True}, "section.count: True, expected int"),
    ({"count": "3"}, "section.count: '3', expected int"),
    ({"rate": True}, "section.rate: True, expected float"),
    ({"rate": "high"}, "section.rate: 'high', expected float"),
    ({"on": 1}, "section.on: 1, expected bool"),
    ({"color": "green"}, "section.color: 'green', expected one of red, blue"),
    ({"share": "half"}, "section.share: 'half', expected float"),
    ({"inner": {"lvel": "token"}}, "section.inner.lvel: unknown, expected one of high, level"),
    ({"inner": {"high": "much"}}, "section.inner.high: 'much', expected float"),
    ({"inner": {"high": -1}}, "inner.high: -1.0, expected more than 0"),
    ({"inner": 3}, "section.inner: 3, expected a group of Inner's fields"),
    ({"scaling": {"level": 1}}, "section.scaling.level: 1, expected str"),
  ],
)
def test_what_does_not_fit_is_one_line(values, message):
  with pytest.raises(InputError) as error:
    made({"stop_ids": ()}, **({"count": 1} | values))
  assert str(error.value) == message


def test_a_field_without_a_default_has_to_be_there():
  with pytest.raises(InputError, match=r"^section\.count: missing, expected int$"):
    made(rate=0.5)


def test_convert_alone():
  assert convert(Color, "red", "field") is Color.RED
  with pytest.raises(InputError, match="field: 3, expected one of red, blue"):
    convert(Color, 3, "field")


def test_at_least():
  config = ml_collections.ConfigDict({"steps": 0, "eval": {"every": 2}})
  at_least(config, {"steps": 0, "eval.every": 2})
  with pytest.raises(InputError, match=r"^eval\.every: 2, expected at least 3$"):
    at_least(config, {"steps": 0, "eval.every": 3})
