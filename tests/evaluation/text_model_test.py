import dataclasses

import numpy as np
import pytest

from posttrain_jax.data.assistant_world.language import vocabulary
from posttrain_jax.data.vocabularies import word_tokenizer
from posttrain_jax.evaluation.text_model import TextModel
from tests.recipes.saved_model import save_model

TEXTS = ["a fox is safe . critique :", "the answer is good . critique :"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  path = tmp_path_factory.mktemp("text_model") / "model"
  save_model(path, 0, tokenizer=word_tokenizer(vocabulary()))
  return TextModel(str(path), seed=0, slots=8, max_prompt_length=16, max_new_tokens=5)


def test_draws_depend_on_the_attempt_alone(model):
  first, count = model.draw(TEXTS)
  assert len(first) == 2 and 2 <= count <= 10
  assert model.draw(TEXTS) == (first, count)
  assert model.draw(TEXTS, attempt=1)[0] != first
  assert all(len(text.split()) <= 5 for text in first)


def test_logprobs_of_endings_do_not_depend_on_the_texts_beside_them(model):
  found = model.logprobs(TEXTS, ("(A)", "(B)"))
  assert found.shape == (2, 2) and (found < 0).all()
  np.testing.assert_allclose(model.logprobs(TEXTS[1:], ("(B)", "(A)"))[0], found[1, ::-1], rtol=1e-5)
  every = model.logprobs(TEXTS[:1], vocabulary())
  assert 0 < np.exp(every, dtype=np.float64).sum() <= 1 + 1e-4  # the tokens of a distribution, without special ones


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
  path = tmp_path_factory.mktemp("chat_model") / "model"
  template = "{% for message in messages %}{{ message['role'] + ' : ' + message['content'] + ' ' }}{% endfor %}"
  template += "{% if add_generation_prompt %}assistant : {% endif %}"
  save_model(path, 0, tokenizer=dataclasses.replace(word_tokenizer(vocabulary()), chat_template=template))
  return TextModel(str(path), seed=0, slots=8, max_prompt_length=16, max_new_tokens=5)


def test_chats_are_gone_on_from_where_the_assistant_stands(chat_model):
  user = {"role": "user", "content": "a fox is"}
  begun = {"role": "assistant", "content": "the answer"}
  found = chat_model.chat_logprobs([[user], [user, begun]], ("is", "good"))
  for row, text in zip(found, ("user : a fox is assistant :", "user : a fox is assistant : the answer")):
    np.testing.assert_allclose(row, chat_model.logprobs([text], ("is", "good"))[0], rtol=1e-5)
  assert not np.allclose(found[0], found[1])


def test_words_are_those_after_a_space(chat_model, monkeypatch):
  pieces = {0: " the", 1: "the", 2: " The", 3: " 12", 4: " a.", 5: " fox"}

  class Pieces:
    vocab_size = len(pieces)

    def decode(self, ids):
      return pieces[ids[0]]

  monkeypatch.setattr(chat_model, "_tokenizer", Pieces())
  assert chat_model.words() == ["fox", "the"]
