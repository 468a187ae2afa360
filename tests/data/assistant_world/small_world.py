"""Makes a small world for tests."""

from posttrain_jax.data.assistant_world.facts import WorldSettings, make_world

SETTINGS = WorldSettings(seed=3, animals=10, devices=2, harmless=3, new_facts=2, rare=2, held_out=0.3)
WORLD = make_world(SETTINGS)
