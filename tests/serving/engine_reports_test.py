import pickle

import pytest

from posttrain_jax.serving.completion import Ending
from posttrain_jax.serving.engine_reports import DrawnPart, DrawnParts, EngineEnded, EngineRequest, Loaded, NotDrawn
from posttrain_jax.serving.running_request import sampling_of
from tests.serving.served import asked


@pytest.mark.parametrize(
  "message",
  [
    EngineRequest(3, (4, 5), 2, sampling_of(asked(stop=("x",), top_logprobs=2), 20)),
    DrawnParts([DrawnPart(3, 0, [4], [-0.5], (((9, -0.25),),), Ending.STOP), DrawnPart(3, 1, [], [], (), None)]),
    NotDrawn([1, 2], "broken"),
    EngineEnded(None),
    Loaded("step-2"),
  ],
  ids=lambda message: type(message).__name__,
)
def test_messages_are_the_same_in_another_process(message):
  assert pickle.loads(pickle.dumps(message)) == message
