import pytest

from posttrain_jax.rewards import units


def split(text):
  return units.split(text, opening="<", closing=">")


@pytest.mark.parametrize(
  ("text", "value", "unit"),
  [
    ("20< cm>", "20", "cm"),
    ("20 <centimetres>", "20", "cm"),
    ("20 <cm>^2", "20", "cm^2"),
    ("20 <square cm>", "20", "cm^2"),
    ("60 <km/h>", "60", "km/h"),
    ("60 kilometers per hour", "60 ", "km/h"),
    ("x <red apples>", "x", "redapple"),
    ("42 apples", "42 ", "apple"),
    ("90°", "90", "°"),
    ("20 °C", "20 ", "°C"),
    ("5%", "5", "%"),
    ("5 percent", "5 ", "%"),
  ],
)
def test_split(text, value, unit):
  assert split(text) == (value, unit)


@pytest.mark.parametrize(
  "text",
  ["3 million", "3 <million>", "2 dozen", "2 or more", "<at least> 5", "5 less", "2x", "2 x", "2 m", "2pi", "3abc"]
  + ["<no solution>", "x apples", "5 <or> 6", "2 <or more>", ""],
)
def test_what_is_no_unit_stays(text):
  assert split(text) == (text, "")


def test_units_agree_if_one_is_missing_and_are_never_converted():
  assert units.agree("cm", "") and units.agree("cm", "cm")
  assert not units.agree("cm", "m")
