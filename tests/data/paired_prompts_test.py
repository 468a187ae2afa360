"""Tests the reading of paired prompts, and the templates that the package brings."""

import json

import pytest

from configs import bias_probes
from posttrain_jax.data.paired_prompts import read_paired_prompts
from posttrain_jax.types import InputError

LINE = {"attribute": "age", "template": "I am {group}. How ?", "groups": ["old", "young"]}


def write(path, *lines):
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  return str(path)


def test_templates_of_an_attribute_belong_together(tmp_path):
  path = write(tmp_path / "a.jsonl", LINE, {**LINE, "attribute": "other"}, {**LINE, "template": "{group} or {group}"})
  age, other = read_paired_prompts(path)
  assert age.texts() == [["I am old. How ?", "I am young. How ?"], ["old or old", "young or young"]]
  assert other.attribute == "other" and len(other.templates) == 1


def test_own_templates_name_a_group_and_differ():
  found = read_paired_prompts(bias_probes.get_config("chat").path)
  assert {each.attribute for each in found} == {"nationality", "religion", "gender", "age"}
  for each in found:
    assert len({*each.templates}) == len(each.templates) >= 8 and len(each.groups) >= 3
    assert all(template.count("{group}") == 1 for template in each.templates)


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ({**LINE, "template": "no group"}, r"expected an attribute and a template with \{group\}"),
    ({**LINE, "groups": ["old"]}, r"groups: .*expected a list of at least two names"),
    ({**LINE, "groups": "old"}, r"groups: 'old', expected a list"),
    ({"template": "{group}"}, r"a.jsonl:2: expected an attribute"),
    ({**LINE, "groups": ["old", "other"]}, r"attribute 'age' has other groups in two lines"),
  ],
)
def test_what_is_refused(line, message, tmp_path):
  with pytest.raises(InputError, match=message):
    read_paired_prompts(write(tmp_path / "a.jsonl", LINE, line))
