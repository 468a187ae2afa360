import json

import pytest

from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.edited import targets
from posttrain_jax.data.encoding import encode_demonstrations
from posttrain_jax.data.labelled_rows import labelled_answer
from posttrain_jax.data.preferences import Margins, pairs, read_comparisons
from posttrain_jax.data.prompts import PromptFormat, read_jsonl
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.labelling.event_log import EventLog
from posttrain_jax.labelling.export import export
from posttrain_jax.labelling.items import RatingKind
from posttrain_jax.labelling.session import Session
from posttrain_jax.labelling.study import EVENTS
from tests.labelling.small_studies import PAIRS, make_study, place_of, prefer

pytest.importorskip("krippendorff", reason="needs pip install 'posttrain_jax[label]'")
pytest.importorskip("sklearn", reason="needs pip install 'posttrain_jax[label]'")

TEMPLATE = (
  "{% for m in messages %}{{ m.role[0] + ':' + m.content + ';' }}{% endfor %}{{ 'a:' if add_generation_prompt }}"
)
TOKENIZER = tiny_tokenizer("abcdefghijklmnopqrstuvwxyz0123456789:;?! ", chat_template=TEMPLATE)


def run(study, say):
  """Lets all raters rate all items: say(rater, view) is the label."""
  with EventLog(study.path / EVENTS) as log:
    now = iter(range(0, 10**6, 30))
    session = Session(study, log, clock=lambda: next(now))
    n = 0
    for rater in study.settings.raters:
      while (view := session.view(rater))["item"] is not None:
        session.label(rater, f"event-{n:06}", view["item"], say(rater, view))
        n += 1
  return export(study, idle_seconds=20)


def rows_of(study, name):
  return [json.loads(line) for line in (study.path / "export" / name).read_text().splitlines()]


def comparisons(study, name):
  limits = dict(max_prompt_length=99, max_answer_length=99)
  return read_comparisons(read_jsonl(study.path / "export" / name), TOKENIZER, prompt_format=PromptFormat(), **limits)[
    0
  ]


def asked(view):
  return view["prompt"][-1]["text"]


def three_raters(rater, view):
  """Agrees on q0 and q1, has a majority on q2 and q3, ties on q4, and none on q5."""
  if asked(view) == "q5":
    beginning = {"ann": "good", "bob": "bad", "eve": None}[rater]
  elif asked(view) == "q4":
    beginning = "good" if rater == "ann" else None
  else:
    beginning = "bad" if rater == "bob" and asked(view) in ("q2", "q3") else "good"
  if beginning is None:
    return {"better": None, "strength": None, "edited": None}
  strength = {"ann": "significantly", "bob": "slightly", "eve": "negligibly"}[rater]
  return prefer(view, beginning, strength, "best" if rater == "eve" and asked(view) == "q1" else None)


@pytest.fixture
def study(tmp_path):
  checks = [{"prompt": "c", "chosen": "good c", "rejected": "bad c"}]
  return make_study(tmp_path, raters=("ann", "bob", "eve"), overlap=3, checks=checks, check_every=6)


def test_pairs_are_read_by_reward_models_and_preference_methods(study):
  summary = run(study, three_raters)
  rows = {row["prompt"]: row for row in rows_of(study, "pairs.jsonl")}
  assert set(rows) == {"q0", "q1", "q2", "q3"}
  assert rows["q0"] == {
    **{"prompt": "q0", "chosen": "good 0", "rejected": "bad 0", "chosen_from": "big", "rejected_from": "small"},
    **{"agree": 1.0, "votes": 3, "strength": "slightly"},
  }
  assert (rows["q2"]["agree"], rows["q2"]["strength"]) == (0.6667, "negligibly")  # of two strengths the weaker one
  assert rows["q1"]["edited"] == "best" and "edited" not in rows["q0"]
  read = comparisons(study, "pairs.jsonl")
  assert [len(each.answers) for each in read] == [2, 3, 2, 2]
  assert TOKENIZER.decode(read[1].answers[0]) == "best<eos>" and read[1].ranks == (0, 1, 2)
  assert len(pairs(read)) == 6
  assert [row.columns["completion"] for row in targets(read_jsonl(study.path / "export/pairs.jsonl")[1:2])] == ["best"]
  assert summary["no_majority"] == 1 and summary["about_the_same"] == 1 and summary["edited"] == 1
  assert summary["wins"] == {"big": 4} and summary["rated"] == 6 and summary["votes"] == 18


def test_margins_and_soft_targets_are_read(study):
  run(study, three_raters)
  batches = ComparisonBatches(comparisons(study, "margins.jsonl"), batch_size=4, seed=0, margins=Margins.LARGE)
  assert sorted(batches.batch(0).margins.max((1, 2))) == [0, 0, 1, 1]
  soft = {row["prompt"]: row for row in rows_of(study, "soft.jsonl")}
  assert {prompt: row["probability"] for prompt, row in soft.items()} == {
    **{"q0": 1.0, "q1": 1.0, "q2": 0.6667, "q3": 0.6667},
    **{"q4": 0.6667, "q5": 0.5},  # one of three prefers and two say about the same; each way once and about the same
  }
  assert [each.probability for each in comparisons(study, "soft.jsonl")] == [
    row["probability"] for row in soft.values()
  ]


def test_edits_are_demonstrations(study):
  run(study, three_raters)
  assert rows_of(study, "demonstrations.jsonl") == [{"prompt": "q1", "completion": "best"}]
  (example,) = encode_demonstrations(read_jsonl(study.path / "export/demonstrations.jsonl"), TOKENIZER, chat=False)
  assert TOKENIZER.decode(example.tokens) == "q1best<eos>"


def test_the_summary_has_agreement_times_checks_and_where_answers_stood(study):
  summary = run(study, three_raters)
  assert json.loads((study.path / "export/summary.json").read_text()) == summary
  assert summary["agreement"]["choices"]["units"] == 6 and len(summary["agreement"]["choices"]["kappa"]) == 3
  assert -1 < summary["agreement"]["strengths"]["alpha"] < 1
  assert summary["raters"]["ann"] == {"labelled": 7, "due": 7, "skipped": 0, "checks": 1, "checks_right": 1.0}
  assert summary["seconds"]["all"] == {"items": 21, "quartiles": [20, 20, 20], "hours": 0.1167, "cut": 21, "unknown": 0}
  shown_first = [row["better"] == row["order"][0] for row in rows_of(study, "votes.jsonl") if row["better"] is not None]
  assert summary["first_shown_preferred"] == round(sum(shown_first) / len(shown_first), 4)
  assert len(rows_of(study, "votes.jsonl")) == 18  # checks are no votes
  assert (study.path / "export/strengths.png").read_bytes().startswith(b"\x89PNG")


def test_chats_keep_their_form(tmp_path):
  system, user = {"role": "system", "content": "s"}, {"role": "user", "content": "hi"}
  said = lambda text: {"role": "assistant", "content": text}  # noqa: E731
  rows = [{"prompt": [system, user], "chosen": [said("good")], "rejected": [said("bad")], "topic": 3}]
  rows += [{"chosen": [user, said("good")], "rejected": [user, said("bad")]}]
  study = make_study(tmp_path, rows=rows)
  run(study, lambda rater, view: prefer(view, "bad", edited="best"))
  first, second = rows_of(study, "pairs.jsonl")
  assert first["edited"] == [said("best")] and first["chosen"] == [said("bad")] and first["topic"] == 3
  assert second["edited"] == [user, said("best")] and "prompt" not in second and "chosen_from" not in second
  assert [len(each.answers) for each in comparisons(study, "pairs.jsonl")] == [3, 3]
  assert rows_of(study, "demonstrations.jsonl")[1] == {"prompt": [user], "completion": "best"}
  examples = encode_demonstrations(read_jsonl(study.path / "export/demonstrations.jsonl"), TOKENIZER, chat=True)
  assert [TOKENIZER.decode(example.tokens) for example in examples] == ["s:s;u:hi;a:best;", "u:hi;a:best;"]


def test_what_was_preferred_in_the_rows_is_not_believed(tmp_path):
  row = PAIRS[0] | {"edited": "old", "strength": "significantly", "probability": None}
  study = make_study(tmp_path, rows=[row])
  run(study, lambda rater, view: prefer(view, "bad", "slightly"))
  (found,) = rows_of(study, "pairs.jsonl")
  assert (found["chosen"], found["rejected"], found["strength"]) == ("bad 0", "good 0", "slightly")
  assert "edited" not in found and (found["chosen_from"], found["rejected_from"]) == ("small", "big")


def test_rankings_are_read_by_ranked_reward_models(tmp_path):
  study = make_study(tmp_path, RatingKind.RANKING, raters=("ann", "bob"), overlap=2)
  tied = {"ranks": [0, 0, 0]}

  def say(rater, view):
    if asked(view) == "q0":
      return tied
    ranks = [0] * 3
    for rank, beginning in enumerate(("good", "fair", "bad") if rater == "ann" else ("fair", "good", "bad")):
      ranks[place_of(view, beginning)] = rank
    return {"ranks": ranks}

  summary = run(study, say)
  rows = rows_of(study, "rankings.jsonl")
  assert [row["prompt"] for row in rows] == ["q1", "q2", "q3"] and summary["about_the_same"] == 1
  assert rows[0]["answers"] == ["good 1", "fair 1", "bad 1"] and rows[0]["ranks"] == [0, 0, 1]
  assert rows[0]["agree"] == 0.6667  # both agree on two of three pairs
  assert [each.ranks for each in comparisons(study, "rankings.jsonl")] == [(0, 0, 1)] * 3
  assert summary["agreement"]["ranks"]["units"] == 12


def test_written_answers_are_read_by_supervised_training(tmp_path):
  study = make_study(tmp_path, RatingKind.DEMONSTRATIONS, raters=("ann", "bob"), overlap=2)
  summary = run(study, lambda rater, view: {"text": f"by {rater}"})
  rows = rows_of(study, "demonstrations.jsonl")
  assert len(rows) == 8 and rows[0] == {"difficulty": 0, "prompt": "q0", "completion": "by ann", "rater": "ann"}
  examples = encode_demonstrations(read_jsonl(study.path / "export/demonstrations.jsonl"), TOKENIZER, chat=False)
  assert TOKENIZER.decode(examples[0].tokens) == "q0by ann<eos>" and summary["agreement"] == {}


@pytest.mark.parametrize("chat", [False, True])
def test_accepted_answers_are_read_by_supervised_training(tmp_path, chat):
  turns = lambda i: [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"said {i}"}]  # noqa: E731
  rows = [{"messages": turns(i)} for i in range(3)] if chat else None
  checks = [{"prompt": "c", "completion": "wrong", "accept": False}]
  study = make_study(
    tmp_path, RatingKind.ACCEPT, rows=rows, raters=("ann", "bob"), overlap=2, checks=checks, check_every=3
  )

  def say(rater, view):
    number = asked(view)[-1]
    if number == "c" or number == "1" or (number == "2" and rater == "ann"):
      return {"accepted": False, "edited": None}
    return {"accepted": True, "edited": "edited" if number == "0" and rater == "bob" else None}

  summary = run(study, say)
  accepted, rejected = (read_jsonl(study.path / "export" / name) for name in ("demonstrations.jsonl", "rejected.jsonl"))
  examples = encode_demonstrations(accepted, TOKENIZER, chat=chat)
  texts = [TOKENIZER.decode(example.tokens) for example in examples]
  assert texts[0] == ("u:q0;a:edited;" if chat else "q0edited<eos>") and len(texts) == (1 if chat else 2)
  assert len(rejected) == 1 and "said 1" in json.dumps(rejected[0].columns)
  assert [each.columns["label"] for each in (*accepted, *rejected)] == [True] * len(accepted) + [False]
  if not chat:  # KTO reads rows of a prompt and a completion
    assert [labelled_answer(each.columns).desirable for each in (*accepted, *rejected)] == [True, True, False]
  assert (summary["no_majority"], summary["edited"]) == (1, 1)
  assert accepted[0].columns["votes"] == 2 and summary["raters"]["bob"]["checks_right"] == 1.0


def test_a_study_that_has_not_begun(tmp_path):
  study = make_study(tmp_path)
  summary = export(study, idle_seconds=20)
  assert (
    summary["rated"] == 0 and summary["files"]["pairs.jsonl"] == 0 and summary["seconds"]["all"]["quartiles"] is None
  )
  assert summary["first_shown_preferred"] is None
