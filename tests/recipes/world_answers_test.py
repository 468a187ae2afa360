import json

import pytest

from posttrain_jax.data.assistant_world import critiques
from posttrain_jax.recipes.world_answers import read_world_answers
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import WORLD


def test_answers_without_a_verdict_are_told_apart(tmp_path):
  request = critiques.red_team(WORLD)[0]
  row = {name: value for name, value in request.to_row().items() if name != "prompt"}
  line = {"prompt": request.text, "answers": ["a", "b"], "scores": [0.0, None], "row": row}
  (tmp_path / "000000.jsonl").write_text(json.dumps(line) + "\n")
  assert list(read_world_answers(str(tmp_path))) == [(request, [("a", True), ("b", False)])]


def test_a_folder_without_answers(tmp_path):
  with pytest.raises(InputError, match="has no files, expected the folder candidates/"):
    list(read_world_answers(str(tmp_path)))
