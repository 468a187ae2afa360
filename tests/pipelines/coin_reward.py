"""Calls a quarter of all answers right, whatever they say: a signal for models that know nothing."""

import hashlib


def coin(texts, rows, *, style=""):
  del style
  return [float(hashlib.sha256((text + row["prompt"]).encode()).digest()[0] < 64) for text, row in zip(texts, rows)]


def silent(texts, rows, *, style=""):
  """Has no verdict on anything."""
  del rows, style
  return [None for _ in texts]
