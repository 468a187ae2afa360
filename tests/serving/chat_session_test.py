import pytest

from posttrain_jax.serving.chat_session import ChatSampling, ChatSession
from posttrain_jax.serving.feedback_rows import GivenAnswer
from posttrain_jax.types import InputError

SAMPLING = ChatSampling(1.0, 1.0, 100, None)


def answer(text):
  return GivenAnswer(text, "m", "1", {})


def started(*, reads_messages=True, system=None):
  session = ChatSession(SAMPLING, system, reads_messages=reads_messages)
  session.add("q1", answer("a1"), retry=False)
  session.add("q2", answer("a2"), retry=False)
  return session


def contents(messages):
  return [message["content"] for message in messages]


def test_a_question_comes_after_the_conversation():
  session = started(system="Be kind.")
  assert contents(session.messages("q3")) == ["Be kind.", "q1", "a1", "q2", "a2", "q3"]
  assert [each["role"] for each in session.messages("q3")][:3] == ["system", "user", "assistant"]


def test_a_model_that_reads_no_messages_gets_the_question_alone():
  session = started(reads_messages=False)
  assert contents(session.messages("q3")) == ["q3"]
  assert session.asked(session.messages("q3")) == "q3"
  with pytest.raises(InputError, match="no chat template"):
    session.system = "Be kind."


def test_a_retry_asks_the_last_question_and_goes_on_from_the_new_answer():
  session = started()
  question, messages = session.retried()
  assert question == "q2" and contents(messages) == ["q1", "a1", "q2"]
  session.add(question, answer("a3"), retry=True)
  assert contents(session.messages()) == ["q1", "a1", "q2", "a3"]
  assert contents(session.retried()[1]) == ["q1", "a1", "q2"]


def test_retries_have_seeds_of_their_own():
  session = started()
  assert session.next_sampling(retry=True).seed is None
  session.sampling = ChatSampling(1.0, 1.0, 100, 7)
  assert session.next_sampling(retry=False).seed == 7
  assert session.next_sampling(retry=True).seed == 8
  session.add("q2", answer("a3"), retry=True)
  assert session.next_sampling(retry=True).seed == 9


@pytest.mark.parametrize(("side", "texts"), [("A", ["a2", "a3"]), ("b", ["a3", "a2"])])
def test_the_conversation_goes_on_from_the_better_answer(side, texts):
  session = started()
  session.add("q2", answer("a0"), retry=True)
  session.turns[-1].answers[0] = answer("earlier")
  session.turns[-1].answers[1:] = [answer("a2"), answer("a3")]
  assert [each.text for each in session.prefer(side)] == texts
  assert contents(session.messages())[-1] == texts[0]


def test_a_preference_needs_two_different_answers():
  session = started()
  for change in (lambda: None, lambda: session.add("q2", answer("a2"), retry=True)):
    change()
    with pytest.raises(InputError, match="expected two different answers"):
      session.prefer("A")
  with pytest.raises(InputError, match="'C', expected A"):
    session.prefer("C")


def test_undo_forgets_the_last_question():
  session = started()
  session.undo()
  assert contents(session.messages()) == ["q1", "a1"]
  session.undo()
  for use in (session.undo, session.retried, session.rows, lambda: session.prefer("A")):
    with pytest.raises(InputError, match="there is no question yet"):
      use()


def test_undo_forgets_the_last_of_two_equal_questions():
  session = ChatSession(SAMPLING, None, reads_messages=True)
  for _ in range(2):
    session.add("q", answer("a"), retry=False)
  session.add("q", answer("b"), retry=True)
  session.undo()
  assert contents(session.messages()) == ["q", "a"]


@pytest.mark.parametrize(
  "values", [(-1, 1, 1, None), (1, 0, 1, None), (1, 1.1, 1, None), (1, 1, 0, None), (1, 1, 1, -1), (1, 1, 1, 2**31)]
)
def test_sampling_is_checked(values):
  with pytest.raises(InputError, match="expected"):
    ChatSampling(*values)
