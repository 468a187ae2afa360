import dataclasses
import enum
from collections.abc import Mapping

import ml_collections
import pytest

from posttrain_jax.runs.settings import as_config, at_least, convert, naming, parse
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


def made(**values):
  return parse(Record, ml_collections.ConfigDict(values), "section")


def test_values_become_the_types_of_the_fields():
  record = made(stop_ids=(1, 2), count=3, rate=1, color="blue", inner={"level": "off", "high": 3}, share=2)
  assert record == Record(3, 1.0, Color.BLUE, Inner("off", 3.0), None, 2.0, True, (1, 2))
  assert isinstance(record.rate, float) and isinstance(record.share, float) and isinstance(record.inner.high, float)
  assert record.color is Color.BLUE


def test_optional_fields():
  assert made(count=1, scaling=None).scaling is None
  assert made(count=1, scaling={"high": 4.0}).scaling == Inner(high=4.0)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"cuont": 3}, "section.cuont: unknown, the closest is count"),
    ({"count": 3.0}, "section.count: 3.0, expected int"),
    ({"count": True}, "section.count: True, expected int"),
    ({"count": "3"}, "section.count: '3', expected int"),
    ({"rate": True}, "section.rate: True, expected float"),
    ({"rate": "high"}, "section.rate: 'high', expected float"),
    ({"on": 1}, "section.on: 1, expected bool"),
    ({"color": "green"}, "section.color: 'green', expected one of red, blue"),
    ({"share": "half"}, "section.share: 'half', expected float"),
    ({"inner": {"lvel": "token"}}, "section.inner.lvel: unknown, the closest is level"),
    ({"inner": {"high": "much"}}, "section.inner.high: 'much', expected float"),
    ({"inner": {"high": -1}}, "section.inner.high: -1.0, expected more than 0"),
    ({"inner": 3}, "section.inner: 3, expected a group of fields (Inner)"),
    ({"scaling": {"level": 1}}, "section.scaling.level: 1, expected str"),
  ],
)
def test_what_does_not_fit_is_one_line(values, message):
  with pytest.raises(InputError) as error:
    made(**({"count": 1} | values))
  assert str(error.value) == message


def test_a_nested_record_names_its_fields_in_full():
  with pytest.raises(InputError, match=r"^section\.inner\.high: 0\.0, expected more than 0"):
    made(count=1, inner={"high": 0.0})
  with pytest.raises(InputError, match=r"^inner\.high: 0\.0, expected"):
    parse(Record, {"count": 1, "inner": {"high": 0.0}})
  record = made(count=1)
  for said, expected in (
    ("inner.level: 3", "warmup.inner.level: 3"),
    ("count 3 does not divide", "warmup.count 3 does not divide"),
    ("inner.jsonl:3: no JSON", "inner.jsonl:3: no JSON"),
    ("/rows.jsonl:3: no JSON", "/rows.jsonl:3: no JSON"),
    ("mesh: 3", "mesh: 3"),
  ):
    with pytest.raises(InputError) as error, naming("warmup", record):
      raise InputError(said)
    assert str(error.value) == expected


def test_a_field_without_a_default_has_to_be_there():
  with pytest.raises(InputError, match=r"^section\.count: missing, expected int$"):
    made(rate=0.5)


def test_convert_alone():
  assert convert(Color, "red", "field") is Color.RED
  with pytest.raises(InputError, match="field: 3, expected one of red, blue"):
    convert(Color, 3, "field")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whole:
  steps: int = at_least(0)
  objective: "Derived"
  sampling: Mapping[str, float]
  sets: Mapping[str, Inner]
  names: tuple[Color, ...]
  note: str | None = None
  options: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Derived:
  clip: float
  temperature: float = dataclasses.field(default=1.0, metadata={"taken_from": "sampling.temperature"})


def whole(**changes):
  values = dict(
    steps=3,
    objective=dict(clip=0.2),
    sampling=dict(temperature=0.5),
    sets=dict(held_out=dict(high=3), other=dict(level="off")),
    names=("red", "blue"),
    options=dict(ddof=1),
  )
  return ml_collections.ConfigDict(values | changes)


def test_a_whole_config():
  record = parse(Whole, whole())
  assert record.sets == {"held_out": Inner(high=3.0), "other": Inner("off")}
  assert record.names == (Color.RED, Color.BLUE) and record.note is None


def test_a_field_may_be_taken_from_another_group():
  assert parse(Whole, whole()).objective.temperature == 0.5
  with pytest.raises(InputError, match=r"^objective\.temperature: unknown, it is the field sampling\.temperature"):
    parse(Whole, whole(objective=dict(clip=0.2, temperature=0.7)))
  with pytest.raises(InputError, match=r"^sampling\.temperature: 'hot', expected float"):
    parse(Whole, whole(sampling=dict(temperature="hot")))


def test_a_record_becomes_its_config_again():
  config = whole(note="x")
  assert as_config(parse(Whole, config)) == config.to_dict() | {
    "sets": {"held_out": {"level": "token", "high": 3.0}, "other": {"level": "off", "high": 2.0}}
  }
  assert "note" not in as_config(parse(Whole, whole()))
  assert type(as_config(parse(Whole, whole()))["names"][0]) is str


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"steps": -1}, "steps: -1, expected at least 0"),
    ({"stepz": 1}, "stepz: unknown, the closest is steps"),
    ({"advantage": 1}, "advantage: unknown, expected one of names, note, objective, options, sampling, sets, steps"),
    ({"sets": {"a": {"hihg": 1}}}, "sets.a.hihg: unknown, the closest is high"),
    ({"names": ("green",)}, "names: 'green', expected one of red, blue"),
    ({"names": "red"}, "names: 'red', expected a sequence"),
    ({"options": {"ddof": 1.5}}, "options.ddof: 1.5, expected int"),
    ({"sampling": {"top_p": 1.0}}, "sampling.temperature: missing in the config"),
  ],
)
def test_what_is_refused_in_a_whole_config(changes, message):
  with pytest.raises(InputError) as error:
    parse(Whole, whole(**changes))
  assert str(error.value) == message


def test_a_config_of_another_method_is_told_as_one():
  @dataclasses.dataclass(frozen=True)
  class Method:
    steps: int
    rollout: int
    eval: int | None = None

  with pytest.raises(InputError, match=r"^batch, epochs: unknown, and rollout, steps: missing; .* another method"):
    parse(Method, {"batch": 1, "epochs": 2})
  with pytest.raises(InputError, match=r"^step: unknown, expected|^step: unknown, the closest is steps"):
    parse(Method, {"step": 1, "rollout": 2})  # a typo
