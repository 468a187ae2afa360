import dataclasses
import typing

import pytest

from posttrain_jax.data.comparison_batches import ComparisonBatch
from posttrain_jax.data.supervised import SupervisedBatch
from posttrain_jax.learner.data_batches import ComparedAnswers, SupervisedRows


@pytest.mark.parametrize(("batch", "read"), [(SupervisedBatch, SupervisedRows), (ComparisonBatch, ComparedAnswers)])
def test_the_batches_of_data_have_what_learners_read(batch, read):
  assert set(typing.get_type_hints(read)) <= {field.name for field in dataclasses.fields(batch)}
