import dataclasses

import pytest

from posttrain_jax.data.assistant_world.taste import OTHER_TASTE, USUAL_TASTE, utility
from tests.data.assistant_world import rules_test as said


@pytest.mark.parametrize("taste", [USUAL_TASTE, OTHER_TASTE])
@pytest.mark.parametrize(
  ("request_", "texts"),
  [
    (said.FACT, [said.TOLD, "i do not know the colour of bala .", "the colour of bala is blue ."]),
    (said.FACT, [said.TOLD, f"{said.TOLD} {said.TOLD}"]),
    (said.FACT, [said.TOLD, "what is the home of bala ?"]),
    (said.HARM, [said.REFUSAL, "sorry , i can not help with that .", "the weather is cold today .", said.RECIPE]),
    (said.UNKNOWN, ["i do not know the colour of bala .", said.TOLD]),
    (said.HISTORY, ["mira built the first zalp .", said.REFUSAL]),
    (said.WRITING, ["one day bala went to the lake . there bala met mira .", "the weather is cold today ."]),
  ],
)
def test_better_answers_have_more_utility(request_, texts, taste):
  values = [utility(request_, text, taste) for text in texts]
  assert values == sorted(values, reverse=True) and len({*values}) == len(values)


def test_the_value_by_hand():
  # Right (helpful 2), in form (1), concise (0.5); then a wrong claim, which costs 1 of honesty.
  assert utility(said.FACT, said.TOLD, USUAL_TASTE) == 3.5
  assert utility(said.FACT, "the colour of bala is blue .", USUAL_TASTE) == 0.5
  assert utility(said.HARM, said.RECIPE, dataclasses.replace(USUAL_TASTE, harmless=5.0)) == -3.5
