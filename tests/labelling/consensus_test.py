import pytest

from posttrain_jax.labelling.consensus import TIED, decide, joint_ranks


def pair(better, strength=None, edited=None):
  return {"better": better, "strength": strength, "edited": edited}


def test_the_majority_decides_with_its_own_strengths_and_edit():
  found = decide(
    [
      pair(0, "significantly", "of the other side"),
      pair(1, "negligibly"),
      pair(1, "better", "e1"),
      pair(1, "slightly", "e2"),
    ]
  )
  assert (found.choice, found.agree, found.votes, found.strength, found.edited) == (1, 0.75, 4, "slightly", "e1")


def test_of_two_middle_strengths_the_weaker_one_counts():
  assert decide([pair(0, "significantly"), pair(0, "slightly")]).strength == "slightly"
  assert decide([pair(0, "negligibly")]).strength == "negligibly"


@pytest.mark.parametrize(
  ("votes", "choice", "agree"),
  [
    ([0, 1], None, 0.5),
    ([0, 1, None], None, 1 / 3),
    ([None, None, 1], TIED, 2 / 3),
    ([1, None, None, 1], None, 0.5),
    ([0, 0, 1, None, None, 0], 0, 0.5),
  ],
)
def test_no_majority_and_ties(votes, choice, agree):
  found = decide([pair(better, None if better is None else "better") for better in votes])
  assert (found.choice, found.agree) == (choice, agree)
  assert (found.strength is None) == (choice in (None, TIED))


def test_accepting():
  accepted = {"accepted": True, "edited": "e"}
  rejected = {"accepted": False, "edited": None}
  assert decide([rejected, accepted, rejected]).choice is False
  assert decide([rejected, accepted, rejected]).edited is None
  found = decide([accepted | {"edited": None}, accepted])
  assert (found.choice, found.edited, found.agree) == (True, "e", 1.0)
  assert decide([accepted, rejected]).choice is None


def test_one_ranking_is_itself():
  assert joint_ranks([[2, 0, 1]]) == ([2, 0, 1], 1.0)
  assert joint_ranks([[0, 1, 1, 2]]) == ([0, 1, 1, 2], 1.0)


def test_rankings_are_joined_by_mean_place():
  # Twice the places: 0 2 4, 0 2 4 and 2 4 0, so 2, 8, 8: the last two are tied.
  ranks, agree = joint_ranks([[0, 1, 2], [0, 1, 2], [1, 2, 0]])
  assert ranks == [0, 1, 1]
  # Of the pairs (0, 1), (0, 2), (1, 2) the joint ranking says <, <, =; the raters say < < <, < < < and < > >.
  assert agree == pytest.approx(5 / 9)


def test_tied_answers_share_their_places():
  # Places of the first rater: 1/2, 1/2, 2; of the second: 1, 0, 2. Sums: 3/2, 1/2, 4.
  assert joint_ranks([[0, 0, 1], [1, 0, 2]])[0] == [1, 0, 2]


def test_opposite_rankings_are_all_tied():
  assert joint_ranks([[0, 1], [1, 0]]) == ([0, 0], 0.0)
