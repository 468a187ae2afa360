import json
import threading

import pytest

from posttrain_jax.serving.feedback_rows import GivenAnswer, Origin
from posttrain_jax.serving.feedback_store import FeedbackFile, FeedbackStore
from posttrain_jax.types import InputError

ONE, OTHER = (GivenAnswer(text, "m", "1", {}) for text in ("one", "other"))


def origin(name, client="client-01"):
  return Origin(client, name, "2026-11-29T12:00:00Z")


def rows(folder):
  return {name: [json.loads(line) for line in (folder / name).read_text().splitlines()] for name in FeedbackFile}


def test_each_kind_has_its_file(tmp_path):
  with FeedbackStore(tmp_path / "new" / "feedback") as store:
    assert store.add_vote("q", ONE, OTHER, origin("a"))
    assert store.add_tie("q", ONE, OTHER, origin("b"))
    assert store.add_edit("q", ONE, "edited", origin("c"))
    assert store.add_thumb("q", ONE, True, origin("d"))
    assert store.add_thumb("r", ONE, False, origin("e"))
  found = rows(tmp_path / "new" / "feedback")
  assert {name: [row["id"] for row in each] for name, each in found.items()} == {
    "votes.jsonl": ["a"],
    "ties.jsonl": ["b"],
    "edits.jsonl": ["c"],
    "liked.jsonl": ["d"],
    "disliked.jsonl": ["e"],
  }


def test_what_is_sent_twice_is_stored_once_also_after_a_restart(tmp_path):
  for known in (False, True):
    with FeedbackStore(tmp_path) as store:
      assert store.add_vote("q", ONE, OTHER, origin("a")) != known
      assert not store.add_vote("q", ONE, OTHER, origin("a"))
  assert len(rows(tmp_path)["votes.jsonl"]) == 1


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_two_unlike_thumbs_of_a_prompt_are_a_vote_also_after_a_restart(order, tmp_path):
  texts = {True: ONE, False: OTHER}
  for number, up in enumerate(order):
    with FeedbackStore(tmp_path) as store:
      store.add_thumb("q", texts[up], up, origin(f"thumb-{number}"))
  (vote,) = rows(tmp_path)["votes.jsonl"]
  assert (vote["chosen"], vote["rejected"], vote["by"]) == ("one", "other", "thumbs")


def test_thumbs_of_other_clients_prompts_or_the_same_text_are_no_vote(tmp_path):
  with FeedbackStore(tmp_path) as store:
    store.add_thumb("q", ONE, True, origin("a"))
    store.add_thumb("q", OTHER, False, origin("b", client="client-02"))
    store.add_thumb("r", OTHER, False, origin("c"))
    store.add_thumb("q", ONE, False, origin("d"))
    store.add_thumb("q", OTHER, True, origin("e", client="client-03"))
  assert rows(tmp_path)["votes.jsonl"] == []


def test_threads_may_store_at_the_same_time(tmp_path):
  with FeedbackStore(tmp_path) as store:

    def work(name):
      for number in range(20):
        store.add_thumb("q", ONE, True, origin(f"{name}-{number}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
  assert len({row["id"] for row in rows(tmp_path)["liked.jsonl"]}) == 80


def test_one_server_stores_in_a_folder_at_a_time(tmp_path):
  with FeedbackStore(tmp_path), pytest.raises(InputError, match="in use by another process"):
    FeedbackStore(tmp_path)


def test_a_folder_that_cannot_be_made_or_read_is_named(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(InputError, match=r"--feedback=.*file: File exists, expected a folder"):
    FeedbackStore(tmp_path / "file")
  (tmp_path / "votes.jsonl").write_text("no row\n")
  with pytest.raises(InputError, match=r"votes\.jsonl:1: malformed JSON"):
    FeedbackStore(tmp_path)
  (tmp_path / "votes.jsonl").write_text("")
  FeedbackStore(tmp_path).close()  # the refused one has let go of the files
