import jax
import jax.numpy as jnp
import pytest

from posttrain_jax.runs import start_line


def test_the_line_has_devices_parameters_and_data():
  state = {"params": {"a": jax.ShapeDtypeStruct((30, 40), jnp.float32)}, "opt_state": jnp.zeros(7)}
  line = start_line.start_line("train", 40, state, "9 prompts")
  count = len(jax.devices())
  assert line == f"train: 40 steps; {count} × CPU; 1.2 k parameters; 9 prompts; compiling during the first step"
  assert "; ;" not in start_line.start_line("train", 40, state, "")


@pytest.mark.parametrize(
  "count, text",
  [(950, "950"), (21_540, "21.5 k"), (134_515_008, "135 M"), (999_700, "1000 k"), (7_615_616_512, "7.62 B")],
)
def test_counts_are_short(count, text):
  assert start_line.short_count(count) == text


def test_counts_of_the_data_say_what_they_mean():
  facts = {"data/examples": 22970, "data/rows": 4945, "data/tokens": 309902, "data/learned": 173492}
  facts["data/packing_efficiency"] = 0.9792
  words = "22\u202f970 examples, 4\u202f945 rows, 309\u202f902 tokens, 173\u202f492 learned tokens, rows 97.9 % full"
  assert start_line.describe_data(facts) == words
  assert start_line.describe_data(facts | {"data/over_limit_cut": 23}) == words + ", 23 cut: over limit"
  assert (
    start_line.describe_data(facts | {"data/over_limit_dropped": 2323}) == words + ", 2\u202f323 left out: over limit"
  )
  assert start_line.describe_data(facts | {"data/over_limit_dropped": 0}) == words
  pairs = {"data/comparisons": 9, "data/pairs": 9, "data/held_out": 2, "data/answer_too_long": 3}
  assert start_line.describe_data(pairs) == "9 comparisons, 9 pairs, 2 held out, 3 left out: answer too long"
  labels = {"data/examples": 9, "data/desirable": 6, "data/undesirable": 3, "data/held_out": 2}
  assert start_line.describe_data(labels) == "9 examples, 6 good, 3 bad, 2 held out"
  assert start_line.describe_data({}) == ""
