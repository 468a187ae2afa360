"""Votes, rates and edits on the page, and looks at what is stored."""

import contextlib

import pytest

pytest.importorskip("starlette", reason="needs pip install 'posttrain_jax[serve]'")

from posttrain_jax.data.preference_rows import judgement
from posttrain_jax.data.prompts import read_jsonl
from posttrain_jax.evaluation.labelled_pairs import read_labels
from posttrain_jax.serving.chat_routes import ChatModel, chat_routes
from posttrain_jax.serving.feedback_store import FeedbackStore
from tests.serving.chat_browsing import echo, finished, opened, rows, send, show
from tests.serving.fake_chat import fake_chat
from tests.serving.local_server import new_app, served
from tests.serving.served import asked


def test_votes_are_blind_and_stored(browser, tmp_path):
  """Who is A is drawn anew for each question, and told after the vote alone."""
  sides = set()
  with (
    fake_chat(lambda asked: [f"I am {asked['model'][0]}"], tmp_path) as (url, requests),
    opened(browser, url) as page,
  ):
    page.get_by_label("Compare with").select_option("large")
    page.get_by_label("Model", exact=True).select_option("small")
    for number in range(8):
      send(page, f"question {number}")
      page.get_by_text("Which one is better?").wait_for()
      cards = page.locator("article")
      titles = [cards.nth(2 * number + place).locator("h3").inner_text() for place in (0, 1)]
      assert titles == ["Answer A", "Answer B"]
      show(page, "compare_wide") if number == 0 else None
      assert page.get_by_role("button", name="Send").is_disabled()
      page.get_by_role("button", name=["A is better", "B is better", "Equally good"][number % 3]).last.click()
      page.get_by_text("Stored, thank you").nth(number).wait_for()
      revealed = [cards.nth(2 * number + place).locator("h3").inner_text() for place in (0, 1)]
      sides.add(tuple(revealed))
    send(page, "last")
    page.get_by_text("Which one is better?").wait_for()
    page.get_by_role("button", name="Skip").click()
  assert sides == {
    ("Answer A: small (v5)", "Answer B: large (v5)"),
    ("Answer A: large (v5)", "Answer B: small (v5)"),
  }
  assert len(rows(tmp_path, "votes.jsonl")) == 6 and len(rows(tmp_path, "ties.jsonl")) == 2
  vote = rows(tmp_path, "votes.jsonl")[0]
  assert [answer["content"] for answer in judgement(vote).answers] == [vote["chosen"], vote["rejected"]]
  assert {vote["chosen_from"], vote["rejected_from"]} == {"small", "large"}
  assert vote["chosen_version"] == "v5" and isinstance(vote["chosen_sampling"]["seed"], int)
  labels, _ = read_labels(read_jsonl(tmp_path / "votes.jsonl") + read_jsonl(tmp_path / "ties.jsonl"))
  assert len(labels) == 8
  # The conversation went on from the better answer.
  said = requests[2]["messages"]
  assert said[1]["content"] == vote["chosen"]


def test_thumbs_and_edits_are_stored(browser, tmp_path):
  with fake_chat(echo, tmp_path) as (url, requests), opened(browser, url) as page:
    send(page, "hi")
    finished(page)
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_text("Stored, thank you").wait_for()
    assert page.get_by_role("button", name="Bad answer").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Good answer").click(force=True)  # a vote is final
    page.get_by_role("button", name="Edit").click()
    field = page.get_by_label("Edited answer")
    assert field.input_value().startswith("<think> the user says")
    page.get_by_role("button", name="Save edit").click()
    page.get_by_text("The edited answer is empty, or as it was.").wait_for()
    field.fill("A better answer")
    page.get_by_role("button", name="Save edit").click()
    page.get_by_text("Edit stored").wait_for()
    page.locator("article").get_by_text("A better answer", exact=True).wait_for()
    send(page, "more")
    page.get_by_text("to 3: more").wait_for()
  assert requests[1]["messages"][1]["content"] == "A better answer"
  assert rows(tmp_path, "liked.jsonl") == []
  (down,), (edit,) = rows(tmp_path, "disliked.jsonl"), rows(tmp_path, "edits.jsonl")
  assert down["client"] == edit["client"] and len(down["client"]) == 32
  assert edit["chosen"] == edit["completion"] == "A better answer" and edit["rejected"] == down["completion"]
  assert edit["prompt"] == [{"role": "user", "content": "hi"}]


def test_without_feedback_there_is_nothing_to_rate(browser, tmp_path):
  with fake_chat(echo, tmp_path, stores=False) as (url, _), opened(browser, url) as page:
    send(page, "hi")
    finished(page)
    assert page.get_by_role("button", name="Good answer").count() == 0
    assert page.get_by_role("button", name="Edit").count() == 0


def test_a_real_model_is_talked_with_and_rated(browser, model, tmp_path):
  shown = {"tiny": ChatModel(model.tokenizer.chat_template is not None, model.sizes.max_new_tokens)}
  with contextlib.ExitStack() as entered:
    store = entered.enter_context(FeedbackStore(tmp_path))
    url = entered.enter_context(served(new_app(model, routes=chat_routes(shown, store))))
    with opened(browser, url, expected=["422"]) as page:
      page.get_by_text("Settings").click()
      page.get_by_label("Seed").fill("7")
      page.get_by_label("Compare with").select_option(label="itself")
      send(page, "hi")
      page.get_by_text("Which one is better?").wait_for()
      page.get_by_role("button", name="A is better").click()
      page.get_by_text("Stored, thank you").wait_for()
      page.get_by_role("button", name="New conversation").click()
      send(page, "a question of more than forty tokens, which is the limit of this model")
      page.get_by_text("No whole answer: prompt: ").first.wait_for()
  (vote,) = rows(tmp_path, "votes.jsonl")
  assert vote["chosen_version"] == vote["rejected_version"] == model.version
  assert {vote["chosen_sampling"]["seed"], vote["rejected_sampling"]["seed"]} == {7, 8}
  # What is stored is what the model said, and can be drawn again from what is stored with it.
  sampling = vote["chosen_sampling"]
  again = asked(tuple(vote["prompt"]), **{name: sampling[name] for name in ("temperature", "top_p", "seed")})
  assert "".join(piece.text for piece in model.pieces(again)) == vote["chosen"]
