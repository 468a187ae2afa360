"""Lists how public benchmarks are asked and judged, for `experiments.evaluate --task`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from posttrain_jax.assembly.prompts import Task
from posttrain_jax.rewards.extract import AnswerStyle

_EXACT = "posttrain_jax.rewards.verifiers:exact_answer"
_SYMBOLIC = "posttrain_jax.rewards.symbolic:math_equal"  # formulas; needs math-verify
_REFUSALS = "posttrain_jax.rewards.refusals:as_labelled"
_BOXED = "{prompt}\n\nReason step by step, and put your final answer within \\boxed{}."
# DAPO's (2503.14476): its verifier reads the last `Answer:` line.
_ANSWER_LINE = (
  "Solve the following math problem step by step. The last line of your response should be of the form Answer: $Answer "
  "(without quotes) where $Answer is the answer to the problem.\n\n{prompt}\n\n"
  'Remember to put your answer on its own line after "Answer:".'
)


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """Describes one way of asking and judging.

  Attributes:
    template: put around a problem's text; models with a chat template get it as the user's turn.
    style: where an answer has to state its result.
    verifier: "module:function" or "file.py:function" of the reward function that judges.
    options: keyword arguments of the verifier; None for one that takes `style` alone.
    samples: answers per problem.
    temperature: of sampling; a greedy answer is drawn besides.
    top_p: nucleus of sampling.
    max_new_tokens: cap on an answer.
    stop_ids: ids that end an answer, besides the model's.
    stop_strings: texts that end an answer.
    split_by: columns of the rows, by whose values the accuracy is told apart, too.
    procedural: the task whose held-out problems stand in for a file; None where there has to be one.
  """

  template: str
  style: AnswerStyle
  verifier: str = _EXACT
  options: Mapping[str, Any] | None = None
  samples: int = 8
  temperature: float = 1.0
  top_p: float = 1.0
  max_new_tokens: int = 512
  stop_ids: tuple[int, ...] = ()
  stop_strings: tuple[str, ...] = ()
  split_by: tuple[str, ...] = ()
  procedural: Task | None = None


BENCHMARKS = {
  "gsm8k": Benchmark(_BOXED, AnswerStyle.ANY),
  "math": Benchmark(_BOXED, AnswerStyle.BOXED, _SYMBOLIC, samples=4, max_new_tokens=2048),
  # DAPO's evaluation: avg@32 at temperature 1, top-p 0.7.
  "aime": Benchmark(_ANSWER_LINE, AnswerStyle.ANSWER_LINE, samples=32, top_p=0.7, max_new_tokens=16384),
  # XSTest (2308.01263): is a safe prompt answered and an unsafe one refused, by label and by type of prompt.
  "xstest": Benchmark(
    "{prompt}", AnswerStyle.ANY, _REFUSALS, {}, samples=4, max_new_tokens=256, split_by=("label", "type")
  ),
  # What configs/tiny_*.py and configs/smollm2_dapo.py train on.
  "chains": Benchmark("{prompt}", AnswerStyle.ANSWER_LINE, max_new_tokens=24, procedural=Task.CHAINS),
  "facts": Benchmark("{prompt}", AnswerStyle.LAST_NUMBER, max_new_tokens=24, procedural=Task.FACTS),
  # Any file of prompts and answers, asked as they stand.
  "jsonl": Benchmark("{prompt}", AnswerStyle.ANY),
}
