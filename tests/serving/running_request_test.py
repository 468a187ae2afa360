from posttrain_jax.data.vocabularies import byte_tokenizer
from posttrain_jax.serving.completion import Ending
from posttrain_jax.serving.engine_reports import DrawnPart, EngineRequest
from posttrain_jax.serving.running_request import Running, sampling_of
from tests.serving.served import asked

BYTES = byte_tokenizer()


def test_a_request_is_drawn_as_it_asks():
  own = sampling_of(asked(temperature=0.5, top_k=3, top_p=0.25, min_p=0.125, stop=("x",), seed=-4), 20)
  config = own.config
  found = (config.temperature, config.top_k, config.top_p, config.min_p, config.stop_strings, own.seed)
  assert found == (0.5, 3, 0.25, 0.125, ("x",), -4)
  assert own.max_new_tokens == 20 and sampling_of(asked(max_tokens=7), 20).max_new_tokens == 7
  assert len({sampling_of(asked(seed=None), 20).seed for _ in range(5)}) == 5


def test_pieces_have_what_a_dispatch_drew():
  cancelled = []
  request = EngineRequest(3, (4, 5), 2, sampling_of(asked(top_logprobs=2), 20))
  running = Running(request, BYTES, print, cancelled.append)
  assert (running.number, running.prompt_tokens, running.left) == (3, 2, 2)
  top = (((9, 0.0), (8, -1.0)), ((6, -3.0), (5, -4.0)))
  piece = running.piece(DrawnPart(3, 1, BYTES.encode("hé")[:2], [-1.0, -2.0], top, None), "v")
  assert (piece.choice, piece.text, piece.logprobs, piece.finish_reason) == (1, "h", (-1, -2), None)
  assert piece.top_logprobs == top and piece.version == "v"
  ending = [*BYTES.encode("hé")[2:], 1]
  piece = running.piece(DrawnPart(3, 1, ending, [-1.0, -2.0], top, Ending.STOP), "v")
  assert (piece.text, piece.finish_reason, piece.tokens) == ("é", Ending.STOP, tuple(ending))
  assert running.piece(DrawnPart(3, 0, BYTES.encode("x"), [-1.0], (), Ending.LENGTH), "v").text == "x"
  running.cancel()
  assert cancelled == [running]
