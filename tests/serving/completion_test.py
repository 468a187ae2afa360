from posttrain_jax.serving.completion import Ending, Refused


def test_the_endings_are_openais_finish_reasons():
  assert [str(ending) for ending in Ending] == ["stop", "length"]


def test_a_refusal_says_whether_to_come_again():
  assert Refused("the queue is full", busy=True).busy and str(Refused("gone", busy=False)) == "gone"
