import pytest

from posttrain_jax.data.prepare.refusal import check_share, refuse
from posttrain_jax.types import InputError


def test_what_is_refused_is_bad_input():
  with pytest.raises(InputError, match="here: found this"):
    refuse("here: found this")


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_between_0_and_1(share):
  check_share("a.b", 0.0)
  check_share("a.b", 1.0)
  with pytest.raises(InputError, match=r"a\.b: .*expected a share"):
    check_share("a.b", share)
