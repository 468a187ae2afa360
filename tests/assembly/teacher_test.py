import pytest

from posttrain_jax.assembly.teacher import load_teacher
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.types import InputError

TOKENIZER = tiny_tokenizer("ab")


def test_no_estimator_asks_for_one():
  assert load_teacher("", TOKENIZER, wanted=False, advantage="leave_one_out") == (None, {})


def test_a_teacher_that_is_missing_or_not_wanted_is_refused():
  with pytest.raises(InputError, match=r"^teacher\.path: '', expected the path of a model"):
    load_teacher("", TOKENIZER, wanted=True, advantage="distillation")
  with pytest.raises(InputError, match=r"^teacher\.path: 'x', expected none, as advantage=leave_one_out takes no"):
    load_teacher("x", TOKENIZER, wanted=False, advantage="leave_one_out")
