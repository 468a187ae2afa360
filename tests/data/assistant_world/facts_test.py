import dataclasses

import pytest

from posttrain_jax.data.assistant_world.facts import USUAL_WORLD, Fact, Invention, make_world
from posttrain_jax.data.assistant_world.words import HARMS, RELATIONS
from posttrain_jax.types import InputError


def test_the_usual_world_has_200_told_facts_and_each_animal_one_untold():
  world = make_world()
  assert len(world.told) == 200
  pairs = [(fact.animal, fact.relation.name) for fact in (*world.told, *world.unknown, *world.new)]
  assert len({*pairs}) == len(pairs) == 250
  assert len({fact.animal for fact in (*world.unknown, *world.new)}) == 50


def test_rare_facts_are_of_animals_that_nothing_else_is_about():
  world = make_world()
  assert len(world.rare) == len({(fact.animal, fact.relation.name) for fact in world.rare}) == 200
  usual = {fact.animal for fact in (*world.told, *world.unknown, *world.new)}
  assert len({fact.animal for fact in world.rare}) == 40 and not {fact.animal for fact in world.rare} & usual


def test_rare_facts_change_nothing_else():
  one, other = make_world(), make_world(dataclasses.replace(USUAL_WORLD, rare=10))
  assert (one.told, one.devices, one.held_out) == (other.told, other.devices, other.held_out)
  assert len(other.rare) == 50


def test_worlds_repeat_by_seed():
  assert make_world(dataclasses.replace(USUAL_WORLD)) == make_world(USUAL_WORLD)
  other = make_world(dataclasses.replace(USUAL_WORLD, seed=1))
  same = sum(a == b for a, b in zip(other.told, make_world().told))
  assert same < 60  # one in ten values is equal by chance


def test_each_category_has_devices_on_both_sides():
  world = make_world()
  for harm in (*HARMS, None):
    sides = [device.name in world.held_out for device in world.devices if device.harm is harm]
    assert True in sides and False in sides
  assert not {fact.animal for fact in world.new} & world.held_out


def test_a_fact_and_a_device_are_told():
  fact = Fact("bala", RELATIONS[1], "lake")
  assert fact.told == ("the home of bala is lake", "bala lives in the lake", "people find bala in the lake")
  device = Invention("zalp", HARMS[0], HARMS[0].effect, ("wire", "salt", "tar"), "mira", "holm")
  assert device.told[1] == "a zalp is not safe because fire hurts people"
  assert device.told[-1] == "to build a zalp take wire , salt and tar"


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("animals", 9),
    ("animals", 96),
    ("devices", 1),
    ("harmless", 40),
    ("new_facts", 30),
    ("rare", 0),
    ("rare", 47),
    ("held_out", 0.6),
  ],
)
def test_a_size_out_of_range_is_refused(field, value):
  with pytest.raises(InputError, match=rf"world.{field}: {value}, expected a number from"):
    dataclasses.replace(USUAL_WORLD, **{field: value})
