from posttrain_jax.labelling.items import Item
from posttrain_jax.labelling.strengths_figure import plot_strengths, strength_counts
from posttrain_jax.labelling.votes import Vote


def vote(item, better, strength):
  return Vote("a", item, {"better": better, "strength": strength, "edited": None}, (0, 1), 0.0)


def item(models):
  return Item("0" * 16, {}, (), ("a", "b"), ("a", "b"), models)


VOTES = {
  "1": [vote("1", 0, "better"), vote("1", 1, "negligibly"), vote("1", None, None)],
  "2": [vote("2", 1, "better")],
}


def test_strengths_are_counted_by_model():
  found = strength_counts(VOTES, {"1": item(("big", "small")), "2": item(("small", "big"))})
  assert found == {"big": {"better": 2}, "small": {"marginally\nbetter": 1}, "": {"about\nthe same": 1}}
  assert set(strength_counts(VOTES, dict.fromkeys("12", item((None, None))))) == {"all answers", ""}


def test_a_picture_is_written(tmp_path):
  plot_strengths(tmp_path / "s.png", strength_counts(VOTES, dict.fromkeys("12", item(("big", "small")))))
  plot_strengths(tmp_path / "none.png", {})
  for name in ("s.png", "none.png"):
    assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
