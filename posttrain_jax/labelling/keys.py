"""Gives each rater a key of their own, made from the token of the study.

Who has a key can rate as this rater only. The keys follow from the token and the names, so they stay the same after a
restart and need not be stored.
"""

import hashlib
import hmac
from collections.abc import Sequence


class RaterKeys:
  """Finds out who sends a request."""

  def __init__(self, raters: Sequence[str], token: str | None):
    """Makes the keys.

    Args:
      raters: their names.
      token: a secret; None if every program on this machine may rate as anyone, by name.
    """
    self._raters = tuple(raters)
    self._keys = None if token is None else {name: _key(token, name) for name in raters}

  @property
  def needed(self) -> bool:
    """Tells whether a rater must show a key."""
    return self._keys is not None

  def key(self, rater: str) -> str | None:
    """Returns a rater's key; None if no key is needed."""
    return None if self._keys is None else self._keys[rater]

  def rater(self, *, authorization: str, name: str) -> str | None:
    """Returns who a request is from; None if it does not say so rightly.

    Args:
      authorization: the header "Bearer KEY".
      name: the header with the rater's name, which counts only if no key is needed.
    """
    if self._keys is None:
      return name if name in self._raters else None
    found = None
    for rater, key in self._keys.items():  # all are compared, so the time taken says nothing
      if hmac.compare_digest(authorization.encode(), f"Bearer {key}".encode()):
        found = rater
    return found


def _key(token: str, rater: str) -> str:
  return hmac.new(token.encode(), f"rater {rater}".encode(), hashlib.sha256).hexdigest()[:32]
