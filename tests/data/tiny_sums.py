"""Defines a tiny TFDS data set for sources_test.

TFDS finds a builder's files only if the builder stands in a module.
"""

import numpy as np
import tensorflow_datasets as tfds


class TinySums(tfds.core.GeneratorBasedBuilder):
  """Holds ten sums; the last column is an array, the last row's text is not ASCII."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    features = {
      "question": tfds.features.Text(),
      "answer": tfds.features.Scalar(np.int32),
      "terms": tfds.features.Tensor(shape=(2,), dtype=np.int32),
    }
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples(0, 8), "test": self._generate_examples(8, 10)}

  def _generate_examples(self, start, stop):
    for i in range(start, stop):
      question = f"{i} ＋ 1?" if i == 9 else f"{i} + 1?"
      yield i, {"question": question, "answer": i + 1, "terms": np.array([i, 1], np.int32)}
