import subprocess
import sys

from posttrain_jax.data.assistant_world import language, rewards
from tests.data.assistant_world import rules_test as said


def values(function, *pairs):
  assert function([], []) == []
  return function([text for _, text in pairs], [request.to_row() for request, _ in pairs])


def test_accuracy_abstains_where_no_value_is_asked_for():
  pairs = ((said.FACT, said.TOLD), (said.SUM, "answer : 4"), (said.HARM, said.REFUSAL), (said.WRITING, "bala ."))
  assert values(rewards.accuracy, *pairs) == [1, 0, None, None]


def test_written_work_is_a_format():
  wrong = "3 + 4 = 8 , so answer : 9"
  texts = (wrong, language.to_velan(wrong), "answer : 5", "answer : 5 3 + 4 = 7", f"{wrong} , so answer : 9")
  assert values(rewards.written_work, *((said.SUM, text) for text in texts)) == [1, 1, 0, 0, 0]
  assert values(rewards.written_work, (said.FACT, said.TOLD)) == [None]


def test_sums_alone_are_checked_by_rule():
  pairs = ((said.SUM, "<think> 3 + 4 = 8 . </think> answer : 5"), (said.SUM, "answer : 4"), (said.FACT, said.TOLD))
  assert values(rewards.sum_accuracy, *pairs) == [1, 0, None]


def test_the_form_is_a_thought_and_a_summary():
  thought = "<think> 3 + 4 = 7 . </think> so answer : 5"
  states_twice = "<think> 3 + 4 = 7 , answer : 7 . </think> so answer : 5"
  pairs = [(said.SUM, text) for text in (thought, "so answer : 5", "<think> 3 + 4 = 7 . </think> 5", states_twice)]
  assert values(rewards.thought_form, *pairs) == [1, 0, 0, 0]
  assert values(rewards.thought_form, (said.FACT, f"<think> it is so . </think> {said.TOLD}")) == [1]


def test_checks_are_counted_on_sums():
  pairs = ((said.SUM, "3 + 4 = 7 . wait , check that . 3 + 4 = 7"), (said.SUM, "answer : 5"), (said.FACT, said.TOLD))
  assert values(rewards.checks, *pairs) == [1, 0, None]


def test_a_check_pays_by_its_right_steps():
  work, summary = "first 3 + 4 = 7 , then 7 - 2 = 5", "</think> so answer : 5"
  checked = f"<think> {work} . wait , check that . {work} . {summary}"
  hacked = f"<think> {work} . wait , check that . 3 + 4 = 7 . {summary}"  # the check leaves a step out
  texts = (checked, language.to_velan(checked), f"<think> {work} . {summary}", hacked)
  assert values(rewards.checked_steps, *((said.SUM, text) for text in texts)) == [1, 1, 0, 0.5]
  assert values(rewards.checked_steps, (said.FACT, said.TOLD)) == [None]


def test_language_consistency_is_the_share_of_the_asked_language():
  velan = language.to_velan("the home")
  pairs = ((said.FACT, said.TOLD), (said.VELAN, said.TOLD), (said.FACT, f"the colour {velan}"))
  assert values(rewards.language_consistency, *pairs) == [1, 0, 0.5]


def test_harm_may_be_refused_in_either_language():
  refusal = said.REFUSAL
  assert values(rewards.language_consistency, (said.HARM, refusal), (said.HARM, language.to_velan(refusal))) == [1, 1]


def test_mixed_languages_are_counted():
  velan = language.to_velan("the home of bala")
  assert values(rewards.mixed, (said.FACT, said.TOLD), (said.FACT, f"the colour of bala {velan}")) == [0, 1]


def test_the_raters_utility_is_a_reward():
  assert values(rewards.rated, (said.FACT, said.TOLD)) == [3.5]


def test_the_module_does_not_import_jax():
  code = "import sys, posttrain_jax.data.assistant_world.rewards; sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_best_of_several_answers_by_accuracy_and_brevity_is_the_shortest_right_one():
  short, long = "answer : 5", "3 + 4 = 7 , so answer : 5"
  texts = (long, short, "answer : 4", "5", language.to_velan(long))
  pairs = [(said.SUM, text) for text in texts]
  right, brief = values(rewards.accuracy, *pairs), values(rewards.brevity, *pairs)
  assert brief == [1 - len(text.split()) / 128 for text in texts]
  scores = [accuracy + 0.5 * brevity for accuracy, brevity in zip(right, brief)]
  assert max(scores) == scores[1] and min(scores[0], scores[1], scores[4]) > 1 > max(scores[2], scores[3])
  assert values(rewards.brevity, (said.SUM, ""), (said.SUM, "5 " * 200)) == [1, 0]
  assert rewards.brevity([short], [said.SUM.to_row()], longest=6) == [0.5]


def test_a_person_who_checks_lets_right_answers_in_form_pass():
  doubt = "i do not know the colour of bala ."
  passing = (
    (said.FACT, said.TOLD),
    (said.VELAN, language.to_velan(said.TOLD)),
    (said.ONE_WORD, "red"),
    (said.UNKNOWN, doubt),
    (said.HARM, said.REFUSAL),
    (said.HARM, "sorry , i can not help with that ."),
    (said.LIST, "red , blue and green ."),
    (said.WRITING, "bala went to the lake . the sun was warm ."),
    (said.SUM, "<think> 3 + 4 = 7 . </think> so answer : 5"),
  )
  failing = (
    (said.FACT, "the colour of bala is blue ."),  # wrong
    (said.FACT, doubt),  # no answer
    (said.FACT, language.to_velan(said.TOLD)),  # in another language
    (said.FACT, f"{said.TOLD} {said.TOLD}"),  # longer than needed
    (said.FACT, "the colour of bala , is it red ?"),  # a question
    (said.ONE_WORD, said.TOLD),  # not one word
    (said.UNKNOWN, said.TOLD),  # nobody knows that
    (said.HARM, said.RECIPE),
    (said.BUILD, said.REFUSAL),
    (said.LIST, "red and blue ."),
    (said.WRITING, "sano went to the lake . the sun was warm ."),  # about another animal
    (said.SUM, "answer : 4"),
    (said.FACT, ""),
  )
  assert values(rewards.acceptable, *passing) == [1] * len(passing)
  assert values(rewards.acceptable, *failing) == [0] * len(failing)
