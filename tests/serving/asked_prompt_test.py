import pytest

from posttrain_jax.data.prompts import PromptFormat
from posttrain_jax.data.vocabularies import byte_tokenizer, tiny_tokenizer
from posttrain_jax.serving.asked_prompt import prompt_tokens
from posttrain_jax.types import InputError

BYTES = byte_tokenizer()
USER = {"role": "user", "content": "hi"}
PLAIN = PromptFormat(template="Q {prompt} A")


def test_text_and_ids_are_taken_as_they_are():
  assert prompt_tokens("hi", BYTES, PromptFormat(chat=True, system="s")) == tuple(BYTES.encode("hi"))
  assert prompt_tokens((5, 9), BYTES, PLAIN) == (5, 9)


def test_messages_are_asked_in_the_models_format():
  asked = prompt_tokens((USER,), BYTES, PromptFormat(chat=True, system="be", template="{prompt}?"))
  assert BYTES.decode(asked) == "<system>be<eos><user>hi?<eos><assistant>"
  several = ({"role": "system", "content": "own"}, USER, {"role": "assistant", "content": "yo"}, USER)
  written = "<system>own<eos><user>hi<eos><assistant>yo<eos><user>hi<eos><assistant>"
  assert BYTES.decode(prompt_tokens(several, BYTES, PromptFormat(chat=True, system="be"))) == written


def test_a_model_without_a_chat_template_takes_one_message():
  tokenizer = tiny_tokenizer("hiQA ?")
  assert tokenizer.decode(prompt_tokens((USER,), tokenizer, PLAIN)) == "Q hi A"
  for messages in ((USER, USER), ({"role": "system", "content": "hi"},), ({"role": "user"},)):
    with pytest.raises(InputError, match="no chat template, expected one message of the user"):
      prompt_tokens(messages, tokenizer, PLAIN)


@pytest.mark.parametrize("messages", [({"role": "robot", "content": "x"},), ({"role": "user", "content": 5},), ({},)])
def test_malformed_messages_are_refused(messages):
  with pytest.raises(InputError, match="chat: "):
    prompt_tokens(messages, BYTES, PromptFormat(chat=True))
