from posttrain_jax.labelling.keys import RaterKeys


def test_a_key_is_one_raters_own():
  keys = RaterKeys(["ann", "bob"], "a-secret-of-the-study")
  assert keys.needed and keys.key("ann") != keys.key("bob") and len(keys.key("ann")) == 32
  for name in ("ann", "bob"):
    assert keys.rater(authorization=f"Bearer {keys.key(name)}", name="ann") == name
  for shown in (
    "",
    "Bearer ",
    keys.key("ann"),
    f"Bearer {keys.key('ann')}0",
    "Bearer a-secret-of-the-study",
    "Bearer é",
  ):
    assert keys.rater(authorization=shown, name="ann") is None


def test_keys_stay_and_depend_on_the_token():
  assert RaterKeys(["ann"], "one").key("ann") == RaterKeys(["bob", "ann"], "one").key("ann")
  assert RaterKeys(["ann"], "one").key("ann") != RaterKeys(["ann"], "two").key("ann")


def test_without_a_token_a_name_of_the_list_is_enough():
  keys = RaterKeys(["ann", "bob"], None)
  assert not keys.needed and keys.key("ann") is None
  assert keys.rater(authorization="", name="bob") == "bob"
  for name in ("", "eve", "Ann", "ann "):
    assert keys.rater(authorization="", name=name) is None
