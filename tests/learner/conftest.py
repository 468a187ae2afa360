import pytest

from posttrain_jax.learner import packed_logprobs


@pytest.fixture
def lookup(monkeypatch):
  """Replaces the transformer with a lookup of the token before, which compiles in a fraction of the time.

  What is tested here concerns only what follows the transformer.
  """
  monkeypatch.setattr(packed_logprobs, "packed_hidden", lambda model, tokens, *_: model.embed[...][tokens])
