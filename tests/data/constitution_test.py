import pathlib

import pytest

from posttrain_jax.data.assistant_world.language import vocabulary
from posttrain_jax.data.assistant_world.words import HARMS
from posttrain_jax.data.constitution import read_constitution
from posttrain_jax.types import InputError

FILE = pathlib.Path(__file__).resolve().parents[2] / "configs" / "constitutions" / "assistant_world.md"
SMALL = """# Two principles
## Priorities
1. safe
2. helpful
## Principles
### 1. Harm
For people.
- priority: safe
- about: fire, theft
- says: fire is wrong
- paraphrase: no fire
- hard: yes
### 2. Help
- priority: helpful
- about: help
- says: help
- paraphrase: help all
"""


@pytest.fixture
def read(tmp_path):
  def of(text):
    (tmp_path / "c.md").write_text(text)
    return read_constitution(str(tmp_path / "c.md"))

  return of


def test_principles_have_numbers_priorities_and_hard_constraints(read):
  found = read(SMALL)
  assert found.priorities == ("safe", "helpful")
  assert [(each.number, each.name, each.priority, each.hard) for each in found.principles] == [
    (1, "Harm", 0, True), (2, "Help", 1, False),
  ]  # fmt: skip
  assert found.principles[0].about == ("fire", "theft") and found.principles[0].says == "fire is wrong"


def test_priorities_are_swapped_and_principles_removed(read):
  found = read(SMALL)
  swapped = found.swapped("safe", "helpful")
  assert swapped.priorities == ("helpful", "safe") and [each.priority for each in swapped.principles] == [1, 0]
  assert swapped.swapped("safe", "helpful") == found
  assert [each.number for each in found.without(1).principles] == [2]


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("2. helpful", "3. helpful", "c.md:4: found number 3, expected 2"),
    ("### 2. Help", "### Help", r"c.md:13: found '### Help', expected '### NUMBER. NAME'"),
    ("- priority: helpful", "- priority: nice", "c.md:14: priority 'nice', expected one of safe, helpful"),
    ("- hard: yes", "- hard: maybe", "c.md:12: hard 'maybe', expected yes or no"),
    ("- says: help\n", "", "c.md:13: principle 2 has no says"),
    ("- about: help", "- abuot: help", "c.md:15: found '- abuot: help', expected '- FIELD: VALUE'"),
  ],
)
def test_an_error_names_the_line(read, old, new, message):
  with pytest.raises(InputError, match=message) as error:
    read(SMALL.replace(old, new))
  assert "\n" not in str(error.value)


def test_changes_that_mean_nothing(read, tmp_path):
  with pytest.raises(InputError, match="no priority 'nice'"):
    read(SMALL).swapped("safe", "nice")
  with pytest.raises(InputError, match="no principle 3"):
    read(SMALL).without(3)
  with pytest.raises(InputError, match="cannot be read"):
    read_constitution(str(tmp_path / "none.md"))
  with pytest.raises(InputError, match="0 priorities and 0 principles"):
    read("nothing")


def test_the_worlds_constitution_has_the_worlds_words_and_all_its_harms():
  found, known = read_constitution(str(FILE)), {*vocabulary()}
  for each in found.principles:
    assert {*each.says.split(), *each.paraphrase.split()} <= known, each.name
  about = [name for each in found.principles for name in each.about]
  assert {harm.name for harm in HARMS} <= {*about} and len(about) == len({*about})
  assert len(found.priorities) == 4 and any(each.hard for each in found.principles)
