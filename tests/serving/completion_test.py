from posttrain_jax.serving.completion import Ending, Refused, one_line


def test_the_endings_are_openais_finish_reasons():
  assert [str(ending) for ending in Ending] == ["stop", "length"]


def test_a_refusal_says_whether_to_come_again():
  assert Refused("the queue is full", busy=True).busy and str(Refused("gone", busy=False)) == "gone"


def test_a_failure_is_told_in_one_line():
  assert (
    one_line(ValueError("out of\n  memory")) == "out of memory" and one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
  )
