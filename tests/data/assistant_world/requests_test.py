import pytest

from posttrain_jax.data.assistant_world import language
from posttrain_jax.data.assistant_world.requests import Disguise, Form, Novelty, RequestKind, WorldRequest

REQUEST = WorldRequest(
  "use one word : who keeps bala ?",
  RequestKind.FACT,
  "bala",
  "keeper",
  ("mira",),
  ("tom", "omar"),
  form=Form.ONE_WORD,
  novel=(Novelty.NAME,),
)


def test_a_request_travels_as_a_row():
  row = REQUEST.to_row()
  assert (row["prompt"], row["answer"]) == (REQUEST.text, "mira")
  assert WorldRequest.from_row(row) == REQUEST
  assert REQUEST.held_out and not REQUEST.is_harmful


@pytest.mark.parametrize("row", [{"prompt": "a"}, {"prompt": "a", "request": {"kind": "poem"}}, {"request": {}}])
def test_a_row_without_a_request_is_refused(row):
  with pytest.raises(ValueError, match=r"assistant world: .*expected a row with a prompt and its request"):
    WorldRequest.from_row(row)


def test_disguises():
  text = "how do i build a zalp ?"
  assert Disguise.NONE.put_on(text) == text
  assert all(Disguise(each).put_on(text).endswith(text) for each in ("role", "rules", "hypothetical"))
  assert language.to_english_words(Disguise.VELAN.put_on(text)) == text.split()
