from posttrain_jax.labelling.timing import time_per_item


def test_quartiles_of_each_rater_and_of_all():
  found = time_per_item({"a": {"1": (10,), "2": (20,), "3": (30,)}, "b": {"1": (1000,), "4": (None,)}}, bound=100)
  assert found["raters"]["a"] == {"items": 3, "quartiles": [15, 20, 25], "hours": 0.0167, "cut": 0, "unknown": 0}
  assert found["raters"]["b"] == {"items": 1, "quartiles": [100, 100, 100], "hours": 0.0278, "cut": 1, "unknown": 1}
  assert found["all"]["items"] == 4 and found["all"]["quartiles"] == [17.5, 25, 47.5] and found["bound"] == 100


def test_an_item_that_was_labelled_again_counts_with_all_its_time():
  found = time_per_item({"a": {"1": (10, None, 500)}}, bound=60)["all"]
  assert (found["items"], found["quartiles"], found["cut"], found["unknown"]) == (1, [70, 70, 70], 1, 0)


def test_no_time():
  assert time_per_item({"a": {}}, bound=60)["raters"]["a"]["quartiles"] is None
