import collections
import itertools

import pytest

from posttrain_jax.labelling.assignment import assign, order_of, with_checks
from posttrain_jax.types import InputError


@pytest.mark.parametrize(("items", "raters", "overlap"), [(10, 3, 2), (7, 2, 2), (100, 5, 3), (1, 4, 1), (11, 4, 1)])
def test_each_item_has_its_raters_and_the_work_is_even(items, raters, overlap):
  names = [f"r{i}" for i in range(raters)]
  queues = assign(items, names, overlap=overlap, seed=3)
  assert all(len(set(queue)) == len(queue) for queue in queues.values())
  seen = collections.Counter(itertools.chain.from_iterable(queues.values()))
  assert seen == dict.fromkeys(range(items), overlap)
  sizes = [len(queue) for queue in queues.values()]
  assert max(sizes) - min(sizes) <= 1


def test_all_pairs_of_raters_share_items():
  names = [*"abcde"]
  queues = assign(100, names, overlap=2, seed=0)
  shared = [len(set(queues[a]) & set(queues[b])) for a, b in itertools.combinations(names, 2)]
  assert sum(shared) == 100 and max(shared) - min(shared) <= 4  # 10 each on average


def test_the_seed_decides_and_orders_differ_between_raters():
  first, again, other = (assign(30, ["a", "b"], overlap=2, seed=seed) for seed in (1, 1, 2))
  assert first == again != other
  assert first["a"] != first["b"] != sorted(first["b"])


def test_more_raters_of_an_item_than_there_are():
  with pytest.raises(InputError, match="--overlap=3: 2 raters, expected from 1 to 2"):
    assign(4, ["a", "b"], overlap=3, seed=0)


def test_one_check_comes_among_each_few_items_at_no_fixed_place():
  queue, checks = [f"i{i}" for i in range(100)], [f"c{i}" for i in range(30)]
  found = with_checks(queue, checks, every=5, seed=0, rater="a")
  assert [name for name in found if name[0] == "i"] == queue
  given = [name for name in found if name[0] == "c"]
  assert len(given) == len(set(given)) == 20
  places = {
    found[start : start + 6].index(name)
    for start in range(0, 120, 6)
    for name in found[start : start + 6]
    if name[0] == "c"
  }
  assert places == set(range(6))
  assert (
    found
    == with_checks(queue, checks, every=5, seed=0, rater="a")
    != with_checks(queue, checks, every=5, seed=0, rater="b")
  )


def test_checks_run_out_and_the_rest_of_the_items_comes_without():
  found = with_checks([*"abcdefg"], ["c1", "c2"], every=2, seed=0, rater="a")
  assert len(found) == 9 and {"c1", "c2"} <= set(found[:6]) and found[6:] == ["e", "f", "g"]
  assert with_checks([*"abc"], ["c1"], every=0, seed=0, rater="a") == [*"abc"]
  assert with_checks([*"abc"], ["c1"], every=4, seed=0, rater="a") == [*"abc"]


def test_sides_are_even_and_each_raters_own():
  orders = [order_of(2, item=str(i), rater=rater, seed=0) for rater in "ab" for i in range(500)]
  assert all(sorted(order) == [0, 1] for order in orders)
  assert 0.45 < sum(order[0] for order in orders) / 1000 < 0.55
  assert orders[:500] != orders[500:] and orders[0] == order_of(2, item="0", rater="a", seed=0)
