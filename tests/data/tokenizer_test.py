"""Tests that tokenisers decode what they encode and can be saved, and that SmolLM2 has its published ids."""

import itertools
import json
import pathlib

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, normalizers, pre_tokenizers, processors

from posttrain_jax.data import chat
from posttrain_jax.data.tokenizer import Tokenizer, byte_tokenizer, load_tokenizer, tiny_tokenizer, word_tokenizer
from posttrain_jax.models.load import resolve
from posttrain_jax.types import InputError

GOLDEN = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "goldens" / "smollm2_135m_instruct.json"
BYTES = byte_tokenizer()
SYMBOLS = ["Answer:", *"0123456789", *"+-*/=().?^$|\\[]", " ", "\n", "A", "ns"]


def test_tiny_ids_follow_the_symbols():
  tokenizer = tiny_tokenizer(SYMBOLS)
  assert tokenizer.encode("Answer: 12\n") == [2, 2 + SYMBOLS.index(" "), 4, 5, 2 + SYMBOLS.index("\n")]
  assert tokenizer.vocab_size == len(SYMBOLS) + 2
  assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.stop_ids) == (None, 1, 0, (1,))
  assert tokenizer.encode("1<eos>") == [4, 1]
  assert tokenizer.decode([4, 1, 0]) == "1<eos><pad>"
  assert tokenizer.decode([4, 1, 0], skip_special_tokens=True) == "1"
  assert tokenizer.encode("") == []


@given(st.lists(st.sampled_from(SYMBOLS)))
def test_tiny_round_trip(symbols):
  tokenizer = tiny_tokenizer(SYMBOLS)
  text = "".join(symbols)
  ids = tokenizer.encode(text)
  assert tokenizer.decode(ids) == text
  assert min(ids, default=2) >= 2


def test_tiny_takes_the_longest_symbol():
  tokenizer = tiny_tokenizer(["a", "ab", "b", "abc"])
  assert tokenizer.encode("abcabab") == [5, 3, 3]


@pytest.mark.parametrize("text", ["12x", "Answer", "é", "x", "1 \t2", "<eos>x", "\x00"])
def test_tiny_refuses_unknown_text(text):
  with pytest.raises(InputError, match=r"no token for .* at character"):
    tiny_tokenizer(SYMBOLS).encode(text)


def test_unknown_text_is_named():
  with pytest.raises(InputError, match="no token for 'xy' at character 2, in '12xy3'"):
    tiny_tokenizer(SYMBOLS).encode("12xy3")


@pytest.mark.parametrize("symbols", [[], ["a", "a"], ["a", ""], ["<eos>"]])
def test_bad_symbols(symbols):
  with pytest.raises(InputError, match="tiny_tokenizer: symbols"):
    tiny_tokenizer(symbols)


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


@pytest.fixture(scope="module")
def smollm2():
  pytest.importorskip("gguf", reason="reading GGUF needs `pip install gguf`")
  try:
    resolve("smollm2-135m-instruct")
  except InputError as error:
    pytest.skip(str(error))
  return load_tokenizer("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def golden():
  if not GOLDEN.exists():
    pytest.skip(f"reference values are not here: {GOLDEN}")
  return json.loads(GOLDEN.read_text())


def test_smollm2_ids(smollm2, golden):
  for case in golden["tokenizer_cases"] + golden["cases"]:
    assert smollm2.encode(case["text"]) == case["ids"], case["text"]
    assert smollm2.decode(case["ids"]) == case["text"]
  for case in golden["cases"]:
    assert smollm2.decode(case["greedy_ids"]) == case["greedy_text"]


def test_smollm2_facts(smollm2):
  assert smollm2.vocab_size == 49152
  assert (smollm2.bos_id, smollm2.eos_id, smollm2.pad_id, smollm2.stop_ids) == (1, 2, 2, (2,))
  assert smollm2.encode("a", add_special_tokens=True) == smollm2.encode("a")


def test_smollm2_survives_saving(smollm2, tmp_path):
  smollm2.save(tmp_path)
  loaded = Tokenizer.load(tmp_path)
  assert loaded.digest() == smollm2.digest()
  text = "Ünïcödé  12345 <|im_start|>user\n🎉<|im_end|>"
  assert loaded.encode(text) == smollm2.encode(text)


def test_what_a_closed_vocabulary_knows_and_what_reads_any_text_are_named():
  with pytest.raises(InputError) as error:
    tiny_tokenizer("0123=").encode("Reverse the word")
  assert "it knows only the text of the procedural task, '0123='; model.vocabulary=bytes reads any text" in str(
    error.value
  )


@given(st.text())
def test_bytes_are_any_text(text):
  ids = BYTES.encode(text)
  assert BYTES.decode(ids) == text and len(ids) == len(text.encode()) and min(ids, default=6) >= 6


def test_bytes_have_a_chat_and_can_be_saved(tmp_path):
  messages = [{"role": "user", "content": "Grüß"}, {"role": "assistant", "content": "Gott"}]
  ids, learned = chat.encode_demonstration(messages, BYTES)
  assert BYTES.decode(ids) == "<user>Grüß<eos><assistant>Gott<eos>"
  assert BYTES.decode(ids[learned]) == "Gott<eos>"
  assert chat.encode_prompt(messages[:1], BYTES) == list(ids[: -len("Gott") - 1])
  BYTES.save(tmp_path)
  assert Tokenizer.load(tmp_path).digest() == BYTES.digest() and BYTES.vocab_size == 262


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


def test_words_are_tokens_whatever_the_white_space():
  tokenizer = word_tokenizer(["the", "lake", ".", "<think>", "3"])
  assert tokenizer.encode("the lake\n  3 .") == [2, 3, 6, 4]
  assert tokenizer.decode([2, 3, 6, 4, 5]) == "the lake 3 . <think>"
  assert tokenizer.decode(tokenizer.encode("the lake<eos>")[:2]) == "the lake"
  assert tokenizer.encode_pieces(["the", "lake ."]) == [[2], [3, 4]]
  with pytest.raises(InputError, match="no token for 'sea'"):
    tokenizer.encode("the sea .")


def test_a_word_tokeniser_is_saved_and_loaded(tmp_path):
  tokenizer = word_tokenizer(["the", "lake"])
  tokenizer.save(tmp_path)
  loaded = Tokenizer.load(tmp_path)
  assert loaded.encode("the lake") == [2, 3] and loaded.decode([2, 3]) == "the lake"
  assert loaded.digest() == tokenizer.digest() and loaded.stop_ids == (1,)


@pytest.mark.parametrize("words", [[], ["a", "a"], ["a b"], [""], ["<eos>"]])
def test_words_must_be_different_and_without_spaces(words):
  with pytest.raises(InputError, match="expected different words without spaces"):
    word_tokenizer(words)
