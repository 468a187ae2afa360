import numpy as np

from posttrain_jax.data.vocabularies import byte_tokenizer
from posttrain_jax.sampling.own_draw import TopTokens
from posttrain_jax.sampling.results import NewTokens
from posttrain_jax.serving.completion import Ending
from posttrain_jax.serving.running_request import Running, sampling_of
from posttrain_jax.types import FinishReason, Prompt
from tests.serving.served import asked

BYTES = byte_tokenizer()
PROMPT = Prompt(3, (4, 5), {})


def test_a_request_is_drawn_as_it_asks():
  own = sampling_of(asked(temperature=0.5, top_k=3, top_p=0.25, min_p=0.125, stop=("x",), seed=-4), 20)
  config = own.config
  found = (config.temperature, config.top_k, config.top_p, config.min_p, config.stop_strings, own.seed)
  assert found == (0.5, 3, 0.25, 0.125, ("x",), -4)
  assert own.max_new_tokens == 20 and sampling_of(asked(max_tokens=7), 20).max_new_tokens == 7
  assert len({sampling_of(asked(seed=None), 20).seed for _ in range(5)}) == 5


def test_pieces_have_what_a_dispatch_drew():
  cancelled = []
  own = sampling_of(asked(top_logprobs=2), 20)
  running = Running(PROMPT, own, 2, BYTES, print, cancelled.append)
  assert running.prompt_tokens == 2
  tokens = np.array(BYTES.encode("hé")[:2], np.int32)
  top = TopTokens(np.array([[9, 8, 7], [6, 5, 4]]), -np.arange(6, dtype=np.float32).reshape(2, 3))
  new = NewTokens(PROMPT, 1, tokens, np.float32([-1, -2]), np.float32([0, 0]), top, None)
  piece = running.piece(new, "v")
  assert (piece.choice, piece.text, piece.logprobs, piece.finish_reason) == (1, "h", (-1, -2), None)
  assert piece.top_logprobs == (((9, 0), (8, -1)), ((6, -3), (5, -4)))
  ending = np.array([*BYTES.encode("hé")[2:], 1], np.int32)
  last = NewTokens(PROMPT, 1, ending, np.float32([-1, -2]), np.float32([0, 0]), top, FinishReason.EOS)
  piece = running.piece(last, "v")
  assert (piece.text, piece.finish_reason, piece.tokens) == ("é", Ending.STOP, tuple(ending.tolist()))
  assert list(running.texts) == [0]
  running.cancel()
  assert cancelled == [running]
