import json

import pytest

from posttrain_jax.data.assistant_world import critiques
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.recipes import constitution_changes
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import WORLD
from tests.data.constitution_test import FILE

SWAP, SWAPPED = "broadly ethical/helpful", "swapped_broadly_ethical_helpful"


@pytest.fixture
def config(tmp_path):
  """Returns a config of judgements in which the principle about harm prefers a refusal, and help prefers help."""
  writer, lines = AnswerWriter(WORLD, 0), []
  for request in critiques.red_team(WORLD):
    chosen, rejected = (writer.answer(request, author) for author in (Author.BARE, Author.HELPFUL))
    own = {"fire": 2, "poison": 2, "theft": 3, "spying": 3, "sickness": 4, "traps": 4}.get(request.harm, 5)
    asked = {str(own): 0.85, "8": 0.2}
    lines.append({**request.to_row(), "chosen": chosen, "rejected": rejected, "asked": asked})
  (tmp_path / "judged.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  found = constitution_changes.changes(swapped=(SWAP,), removed=(2, 8))
  found.update(constitution=str(FILE), judged=str(tmp_path / "judged.jsonl"))
  return found


def test_a_swap_turns_what_no_hard_constraint_decides(config, tmp_path):
  found = constitution_changes.weigh_anew(config, tmp_path / "made")
  for harm in ("fire", "theft", "fraud", "sickness"):
    assert found[f"unchanged/{harm}/other_choice"] == 0 and found[f"unchanged/{harm}/refusal"] == 1
  assert found[f"{SWAPPED}/theft/other_choice"] == 1 and found[f"{SWAPPED}/theft/refusal"] == 0
  assert found[f"{SWAPPED}/sickness/refusal"] == found[f"{SWAPPED}/sickness/veto"] == 1  # number 4 is hard
  assert (tmp_path / "made" / constitution_changes.CHANGES).exists()


def test_a_principle_that_is_removed_changes_its_own_categories(config, tmp_path):
  found = constitution_changes.weigh_anew(config, tmp_path / "made")
  assert found["without_2/fire/refusal"] == 0 and found["without_2/theft/refusal"] == 1
  assert found["without_8/trained/other_choice"] == 0


def test_bad_input(config, tmp_path):
  config.swapped = ("helpful",)
  with pytest.raises(InputError, match="swapped: 'helpful', expected ONE/OTHER"):
    constitution_changes.weigh_anew(config, tmp_path / "made")
  config.swapped = ()
  (tmp_path / "judged.jsonl").write_text("{}\n")
  with pytest.raises(InputError, match="expected what an AI judge wrote"):
    constitution_changes.weigh_anew(config, tmp_path / "made")
