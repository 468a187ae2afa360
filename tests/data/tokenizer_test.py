"""Tests that tokenisers decode what they encode and can be saved, and what they do with pieces of a text."""

import itertools
import json

import pytest
import tokenizers
from tokenizers import decoders, normalizers, pre_tokenizers, processors

from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.types import InputError

SYMBOLS = ["Answer:", *"0123"]


def test_unknown_text_is_named():
  with pytest.raises(InputError, match="no token for 'xy' at character 2, in '12xy3'"):
    tiny_tokenizer(SYMBOLS).encode("12xy3")


def test_saved_and_loaded_are_the_same(tmp_path):
  tokenizer = tiny_tokenizer(SYMBOLS, chat_template="{{ messages }} ✓")
  tokenizer.save(tmp_path)
  loaded = Tokenizer.load(tmp_path)
  assert loaded.digest() == tokenizer.digest()
  assert loaded.encode("Answer:1") == tokenizer.encode("Answer:1")
  assert loaded.chat_template == "{{ messages }} ✓"
  assert (loaded.bos_id, loaded.eos_id, loaded.pad_id, loaded.stop_ids) == (None, 1, 0, (1,))
  with pytest.raises(InputError, match="no token for"):
    loaded.encode("é")


def test_digest_sees_what_matters():
  digests = {
    tiny_tokenizer(["a", "b"]).digest(),
    tiny_tokenizer(["b", "a"]).digest(),
    tiny_tokenizer(["a", "b"], chat_template="x").digest(),
    Tokenizer(tiny_tokenizer(["a", "b"]).backend, eos_id=1, pad_id=0, stop_ids=(1, 2)).digest(),
  }
  assert len(digests) == 4
  assert tiny_tokenizer(["a", "b"]).digest() in digests


def _edit(path, **changes):
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_published_layouts(tmp_path):
  tiny_tokenizer(["a", "b", "c"]).save(tmp_path)
  config = tmp_path / "tokenizer_config.json"
  _edit(config, eos_token={"__type": "AddedToken", "content": "<eos>"}, bos_token="c", pad_token=None)
  _edit(config, chat_template=[{"name": "tool_use", "template": "x"}, {"name": "default", "template": "y"}])
  _edit(tmp_path / "generation_config.json", eos_token_id=[3, 1, 2])
  loaded = Tokenizer.load(tmp_path)
  assert (loaded.bos_id, loaded.eos_id, loaded.pad_id, loaded.stop_ids) == (4, 1, None, (1, 3, 2))
  assert loaded.special_tokens == {"bos_token": "c", "eos_token": "<eos>"}
  assert loaded.chat_template == "y"

  (tmp_path / "chat_template.jinja").write_text("z")
  _edit(tmp_path / "generation_config.json", eos_token_id=2)
  loaded = Tokenizer.load(tmp_path)
  assert (loaded.chat_template, loaded.stop_ids) == ("z", (1, 2))
  (tmp_path / "generation_config.json").unlink()
  assert Tokenizer.load(tmp_path).stop_ids == (1,)


def test_saved_truncation_and_padding_are_switched_off(tmp_path):
  tokenizer = tiny_tokenizer(["a", "b"])
  tokenizer.backend.enable_truncation(2)
  tokenizer.backend.enable_padding(length=9)
  tokenizer.save(tmp_path)
  assert Tokenizer.load(tmp_path).encode("abab") == [2, 3, 2, 3]


@pytest.mark.parametrize(
  "break_it, message",
  [
    (lambda d: (d / "tokenizer.json").unlink(), "tokenizer.json: no such file"),
    (lambda d: (d / "tokenizer.json").write_text("{}"), "tokenizer.json: not a tokeniser"),
    (lambda d: (d / "tokenizer_config.json").unlink(), "tokenizer_config.json: no such file"),
    (lambda d: (d / "tokenizer_config.json").write_text("{\n}}"), "tokenizer_config.json:2: not JSON"),
    (lambda d: _edit(d / "tokenizer_config.json", eos_token="<end>"), "eos_token is '<end>', which is not a token"),
    (lambda d: _edit(d / "tokenizer_config.json", chat_template=3), "chat_template is int, expected a string"),
    (lambda d: _edit(d / "generation_config.json", eos_token_id=[1, 99]), "eos_token_id has 99"),
  ],
)
def test_bad_directories(tmp_path, break_it, message):
  tiny_tokenizer(["a", "b"]).save(tmp_path)
  break_it(tmp_path)
  with pytest.raises(InputError, match=message) as error:
    Tokenizer.load(tmp_path)
  assert "\n" not in str(error.value)


def test_what_starts_a_text_is_not_written_twice():
  tokenizer = tiny_tokenizer(["B", "a"])
  tokenizer.backend.post_processor = processors.TemplateProcessing(single="B $A", special_tokens=[("B", 2)])
  assert tokenizer.encode_prompt("a") == tokenizer.encode_prompt("Ba") == [2, 3]
  assert tokenizer.encode_prompt("BBa") == [2, 2, 3]  # as the text has it
  assert tokenizer.encode("Ba", add_special_tokens=True) == [2, 2, 3]  # as transformers does, for `experiments.score`
  assert tokenizer.encode_pieces(["Ba", "a"], prompt=True) == [[2, 3], [3]]


def test_what_ends_a_text_is_not_written_after_a_prompt():
  tokenizer = tiny_tokenizer(["B", "a"])
  special = [("B", 2), ("<eos>", 1)]
  tokenizer.backend.post_processor = processors.TemplateProcessing(single="B $A <eos>", special_tokens=special)
  assert tokenizer.encode_prompt("a") == tokenizer.encode_prompt("Ba") == [2, 3]
  assert tokenizer.encode_prompt("a<eos>") == [2, 3, 1]  # as the text has it
  assert tokenizer.encode_pieces(["a", "a<eos>"], prompt=True) == [[2, 3], [3, 1]]
  assert tokenizer.encode("a", add_special_tokens=True) == [2, 3, 1]


def test_end_tokens_at_an_answers_end_are_left_out():
  tokenizer = Tokenizer(tiny_tokenizer(["<end>", "a", " "]).backend, eos_id=1, stop_ids=(1, 2))
  for text in ("a", "a<eos>", "a<end>\n", "a<eos> <end><end> "):
    assert tokenizer.without_end(text) == "a"
  assert tokenizer.without_end("a <eos>a ") == "a <eos>a "


def metaspace(scheme="always"):
  """Makes a tokeniser as Llama 2's: it puts a space before every text."""
  vocab = ["<s>", "</s>", "▁", "a", "b", ":", "\n", "▁a", "ab", "▁b"]
  backend = tokenizers.Tokenizer(
    tokenizers.models.BPE({token: i for i, token in enumerate(vocab)}, [("▁", "a"), ("a", "b"), ("▁", "b")])
  )
  if scheme == "normalizer":  # the same in another form, which older files have
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
  else:
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
  backend.add_special_tokens(["<s>", "</s>"])
  backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
  return Tokenizer(backend, bos_id=0, eos_id=1, stop_ids=(1,))


@pytest.mark.parametrize("scheme", ["always", "first", "normalizer"])
@pytest.mark.parametrize(
  "pieces", [["a:", "b", "</s>"], ["a:", " b", ""], ["", "a:", "a"], ["a:\n", "b</s>", "a:\n", "a</s>"]]
)
def test_pieces_have_the_ids_of_the_whole_text(scheme, pieces):
  tokenizer = metaspace(scheme)
  found = tokenizer.encode_pieces(pieces, prompt=True)
  assert [*itertools.chain.from_iterable(found)] == tokenizer.encode("".join(pieces), add_special_tokens=True)
  assert tokenizer.encode("b") != tokenizer.encode_pieces(["a:", "b"])[1]  # alone it has a space before it


def test_pieces_that_a_token_joins_are_refused():
  with pytest.raises(InputError, match=r"^tokenizer: puts a space before every text, and joins 'a: ' with 'b'"):
    metaspace().encode_pieces(["a: ", "b"])
  # Other tokenisers encode each piece by itself, as a prompt and a sampled answer are.
  assert tiny_tokenizer(["a", "b", "ab"]).encode_pieces(["a", "b"]) == [[2], [3]]
