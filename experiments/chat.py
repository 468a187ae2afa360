"""Talks with a model in the terminal.

    python -m experiments.chat --model=PATH_OR_NAME
    python -m experiments.chat --server=http://localhost:8000 [--model=NAME]
    echo "What is 7 * 8?" | python -m experiments.chat --model=PATH_OR_NAME

PATH_OR_NAME is a run's workdir, a Hugging Face directory, a GGUF file or a known name; with --server nothing is loaded,
and NAME is one of its models. /help lists the commands, which change the sampling, draw another answer, and save rows
for experiments.sft, reward_model and dpo (docs/chatting.md). A backslash at the end of a line goes on in the next one.
Ctrl-C stops an answer, Ctrl-D ends.

Over a pipe each line is a question, and answers are printed as they are. Exit codes: 0 done, 2 bad input, 1 anything
else.
"""

import contextlib
import sys

from absl import flags as absl_flags

from experiments import flags

_MODEL = absl_flags.DEFINE_string("model", None, "workdir, Hugging Face directory, GGUF file, known or served name")
_SERVER = absl_flags.DEFINE_string("server", None, "address of experiments.serve, or of another one with OpenAI's API")
_TOKEN = absl_flags.DEFINE_string("token", None, "FILE with the server's token; POSTTRAIN_JAX_TOKEN does the same")
_SYSTEM = absl_flags.DEFINE_string("system", None, "system message; without it that of the model's format")
_TEMPERATURE = absl_flags.DEFINE_float("temperature", 1.0, "of sampling; 0: the most likely tokens", lower_bound=0.0)
_TOP_P = absl_flags.DEFINE_float("top_p", 1.0, "nucleus of sampling")
_MAX_TOKENS = absl_flags.DEFINE_integer("max_tokens", None, "cap on an answer; without it 512 or less", lower_bound=1)
_MAX_PROMPT = absl_flags.DEFINE_integer(
  "max_prompt_length", None, "tokens of a conversation; without it 2048 or as many as the model reads", lower_bound=1
)
_SEED = absl_flags.DEFINE_integer("seed", None, "of the draws; without it a new one for each answer", lower_bound=0)
_USUAL_TOKENS, _USUAL_PROMPT = 512, 2048
absl_flags.register_validator("top_p", lambda p: p is None or 0 < p <= 1, "expected a number in (0, 1]")


def main():
  from posttrain_jax.serving.chat_session import ChatSampling, ChatSession
  from posttrain_jax.serving.terminal_chat import Screen, read_lines, talk
  from posttrain_jax.types import InputError

  if _MODEL.value is None and _SERVER.value is None:
    raise InputError("--model: missing, expected a model; or --server")
  types = sys.stdin.isatty()
  if types:
    with contextlib.suppress(ImportError):
      import readline  # noqa: F401 (input() then edits lines)
  sys.stdin.reconfigure(errors="replace")
  with contextlib.ExitStack() as opened:
    source, reads_messages, most = _served() if _SERVER.value is not None else _loaded(opened)
    sampling = ChatSampling(_TEMPERATURE.value, _TOP_P.value, most, _SEED.value)
    session = ChatSession(sampling, _SYSTEM.value, reads_messages=reads_messages)
    screen = Screen()
    if types:
      screen.say(f"{source.model}; /help lists the commands, Ctrl-D ends")
    talk(session, source, read_lines(sys.stdin, prompts=types), screen, interactive=types)


def _served():
  """Returns the source of answers, whether it reads messages, and the tokens of an answer."""
  from posttrain_jax.serving.access import read_token
  from posttrain_jax.serving.answer_sources import ServerAnswers

  served = ServerAnswers(_SERVER.value, _MODEL.value, read_token(_TOKEN.value))
  return served, served.reads_messages, _MAX_TOKENS.value or min(_USUAL_TOKENS, served.max_tokens or _USUAL_TOKENS)


def _loaded(opened):
  """Returns the same of a model in this process."""
  from posttrain_jax.assembly.model import read_config
  from posttrain_jax.local_path import local_path
  from posttrain_jax.serving.answer_sources import LocalAnswers
  from posttrain_jax.serving.running_model import EngineSizes, RunningModel

  model = read_config(_MODEL.value)
  context = model.max_position_embeddings
  if context is None or model.beyond_context:
    context = _USUAL_TOKENS + _USUAL_PROMPT
  answer = _MAX_TOKENS.value or min(_USUAL_TOKENS, max(1, context // 2))
  prompt = _MAX_PROMPT.value or min(_USUAL_PROMPT, max(1, context - answer))
  sizes = EngineSizes(slots=1, max_prompt_length=prompt, max_new_tokens=answer, queue=1, steps_per_dispatch=4)
  running = RunningModel(_MODEL.value, sizes)
  opened.callback(running.close)
  source = LocalAnswers(running, local_path(_MODEL.value).resolve().name)
  return source, running.tokenizer.chat_template is not None, answer


if __name__ == "__main__":
  flags.run_plain(main)
