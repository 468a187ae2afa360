"""Tests that all ids which end an answer are found, in a model's files and in its chat template."""

import json

import pytest
import tokenizers

from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.data.vocabularies import tiny_tokenizer

CHATML = (
  "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
  "{{ '<|im_start|>assistant\n' if add_generation_prompt }}"
)


def base_tokenizer(tmp_path, template=CHATML, *, eos="<|endoftext|>"):
  """Writes a base model's tokeniser, whose end token is not the one of the template."""
  special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eom|>", "<|eot|>", "</s>"]
  made = tokenizers.Tokenizer(tokenizers.models.BPE({letter: i for i, letter in enumerate("abuv\n")}, []))
  made.add_special_tokens([tokenizers.AddedToken(token, normalized=False) for token in special])
  made.save(str(tmp_path / "tokenizer.json"))
  write(tmp_path / "tokenizer_config.json", chat_template=template, **({"eos_token": eos} if eos else {}))
  return {token: made.token_to_id(token) for token in special}


def write(path, **values):
  path.write_text(json.dumps(values))


def stops(tmp_path):
  return set(Tokenizer.load(tmp_path).stop_ids)


def test_the_end_of_turn_of_the_template_is_added_to_the_tokenisers(tmp_path):
  ids = base_tokenizer(tmp_path)
  assert stops(tmp_path) == {ids["<|endoftext|>"], ids["<|im_end|>"]}
  Tokenizer.load(tmp_path).save(tmp_path / "again")
  assert Tokenizer.load(tmp_path / "again").digest() == Tokenizer.load(tmp_path).digest()


def test_all_files_count(tmp_path):
  ids = base_tokenizer(tmp_path, template=None)
  write(tmp_path / "generation_config.json", eos_token_id=[ids["<|eom|>"], ids["<|eot|>"]])  # as Llama 3.1's
  write(tmp_path / "config.json", eos_token_id=ids["<|im_end|>"])
  write(tmp_path / "special_tokens_map.json", eos_token={"content": "</s>"})
  assert stops(tmp_path) == {ids[token] for token in ("<|endoftext|>", "<|eom|>", "<|eot|>", "<|im_end|>", "</s>")}


def test_special_tokens_map_gives_the_end_token_that_the_config_lacks(tmp_path):
  ids = base_tokenizer(tmp_path, template=None, eos=None)
  write(tmp_path / "special_tokens_map.json", eos_token="</s>")
  found = Tokenizer.load(tmp_path)
  assert (found.eos_id, found.stop_ids) == (ids["</s>"], (ids["</s>"],))


def test_an_id_of_config_json_that_the_tokeniser_lacks_is_ignored(tmp_path):
  ids = base_tokenizer(tmp_path, template=None)
  write(tmp_path / "config.json", eos_token_id=[99, -1])
  assert stops(tmp_path) == {ids["<|endoftext|>"]}


@pytest.mark.parametrize(
  ("ending", "expected"),
  [
    ("'<end>'", "<end>"),
    ("'\n<end>\n'", "<end>"),  # with white space around it
    ("eos_token", None),  # the tokeniser's own
    ("'<eos><end>'", None),  # the first one ends the answer
    ("'\n'", None),  # an end of line is no end of an answer
    ("'b'+'a'", None),  # several ordinary tokens
    ("('<eos>' if loop.last else '<end>')", "<end>"),  # in the middle of a chat
  ],
)
def test_what_a_template_teaches(ending, expected):
  template = "{% for m in messages %}{{ m.role[0] + ':' + m.content + " + ending + " }}{% endfor %}"
  tokenizer = tiny_tokenizer(["<end>", *"abuv:\n"], chat_template=template)
  assert set(tokenizer.stop_ids) == {1, *([] if expected is None else tokenizer.encode(expected))}


@pytest.mark.parametrize(
  "template", ["{{ messages }}", "{{ raise_exception('no') }}", "{% for m in messages %}x{% endfor %}"]
)
def test_a_template_that_writes_no_turn_teaches_nothing(template):
  assert tiny_tokenizer("abuvx", chat_template=template).stop_ids == (1,)
