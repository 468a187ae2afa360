"""Serves models over HTTP, in the form of OpenAI's API.

    python -m experiments.serve --model=PATH_OR_NAME [--model=NAME=PATH ...] [--port=8000] [--slots=16]
    python -m experiments.serve --model=WORKDIR --reload_seconds=30      # takes a run's newest checkpoint as it comes
    python -m experiments.serve --model=PATH_OR_NAME --host=0.0.0.0 --token=FILE      # for other machines

PATH_OR_NAME is a run's workdir, a Hugging Face directory, a GGUF file or a known name. A run's model is asked in the
format of its training, any other model by its chat template if it has one. When requests are taken, one line with the
address is printed. A browser finds a page there to talk with the models; with --feedback=DIR its votes and edits
become training data (docs/chatting.md). On SIGTERM or Ctrl-C running answers are finished and new requests get 503; a
second one ends it at once. Needs pip install 'posttrain_jax[serve]'. docs/serving.md describes limits and statuses.
Exit codes: 0 all answers were finished, 2 bad input, 1 anything else, such as answers that were cut off.
"""

import contextlib
import sys

from absl import flags as absl_flags

from experiments import flags, messages

_MODEL = absl_flags.DEFINE_multi_string("model", None, "PATH_OR_NAME, or NAME=PATH with the name to serve it under")
_HOST = absl_flags.DEFINE_string("host", "127.0.0.1", "address to listen at; others than this machine's need a token")
_PORT = absl_flags.DEFINE_integer("port", 8000, "port; 0: a free one", lower_bound=0, upper_bound=65535)
_TOKEN = absl_flags.DEFINE_string("token", None, "file with the token that clients must show")
_TEMPLATE = absl_flags.DEFINE_string("template", None, "text around {prompt}; without it that of the model's format")
_SYSTEM = absl_flags.DEFINE_string("system", None, "system message of chats without one; without it the format's")
_SLOTS = absl_flags.DEFINE_integer("slots", 16, "choices of a model drawn at the same time", lower_bound=1)
_QUEUE = absl_flags.DEFINE_integer("queue", 64, "choices of a model that may wait for a slot", lower_bound=0)
_PROMPT = absl_flags.DEFINE_integer("max_prompt_length", 1024, "cap on a prompt in tokens", lower_bound=1)
_NEW = absl_flags.DEFINE_integer("max_new_tokens", 512, "cap on a choice in tokens", lower_bound=1)
_STEPS = absl_flags.DEFINE_integer(
  "steps_per_dispatch", 8, "tokens drawn between two looks at the queue", lower_bound=1
)
_BODY = absl_flags.DEFINE_integer("max_body_bytes", 1_000_000, "cap on the body of a request", lower_bound=1)
_RATE = absl_flags.DEFINE_integer("requests_per_minute", 600, "of one client address", lower_bound=1)
_CLIENT = absl_flags.DEFINE_integer("requests_per_client", 16, "of one address at the same time", lower_bound=1)
_SECONDS = absl_flags.DEFINE_float("request_seconds", 600.0, "after which an answer ends where it is", lower_bound=0.0)
_GRACE = absl_flags.DEFINE_float("grace_seconds", 60.0, "for running answers after SIGTERM", lower_bound=0.0)
_FEEDBACK = absl_flags.DEFINE_string("feedback", None, "folder for votes and edits of the chat page; None: no votes")
_RELOAD = absl_flags.DEFINE_float("reload_seconds", None, "between looks for a newer checkpoint", lower_bound=0.1)
_GROUPS = {
  "what people say of answers": [_FEEDBACK],
  "who may ask, and how much": [_TOKEN, _BODY, _RATE, _CLIENT, _SECONDS, _GRACE],
  "in which form models are asked": [_TEMPLATE, _SYSTEM],
  "the engine of each model": [_SLOTS, _QUEUE, _PROMPT, _NEW, _STEPS, _RELOAD],
}


def main():
  from posttrain_jax.serving.extra import check_installed

  check_installed("experiments.serve")
  from posttrain_jax.serving.access import check_binding, read_token
  from posttrain_jax.serving.app import WITHOUT_TOKEN, RequestLimits, ServingApp
  from posttrain_jax.serving.chat_routes import PAGE, ChatModel, chat_routes
  from posttrain_jax.serving.engine_process import EngineProcess
  from posttrain_jax.serving.feedback_store import FeedbackStore
  from posttrain_jax.serving.guard import GuardSettings, guarded
  from posttrain_jax.serving.model_names import named_models
  from posttrain_jax.serving.running_model import RunningModel
  from posttrain_jax.serving.server import listen, serve
  from posttrain_jax.serving.serving_engine import EngineSizes

  token = read_token(_TOKEN.value)
  check_binding(_HOST.value, token)
  paths = named_models(_MODEL.value)
  bound = listen(_HOST.value, _PORT.value)  # before the models are loaded: a port in use is known at once
  sizes = EngineSizes(
    slots=_SLOTS.value,
    max_prompt_length=_PROMPT.value,
    max_new_tokens=_NEW.value,
    queue=_QUEUE.value,
    steps_per_dispatch=_STEPS.value,
  )
  asked = {"template": _TEMPLATE.value, "system": _SYSTEM.value}
  asked = {name: value for name, value in asked.items() if value is not None}
  with contextlib.ExitStack() as opened:
    feedback = None if _FEEDBACK.value is None else opened.enter_context(FeedbackStore(_FEEDBACK.value))
    engines = opened.enter_context(EngineProcess(messages.print_plainly))
    options = dict(asked=asked, reload_seconds=_RELOAD.value, start=engines.start)
    models = {name: RunningModel(path, sizes, **options) for name, path in paths.items()}
    shown = {name: ChatModel(each.tokenizer.chat_template is not None, _NEW.value) for name, each in models.items()}
    limits = RequestLimits(seconds=_SECONDS.value, per_client=_CLIENT.value)
    app = ServingApp(models, limits, chat_routes(shown, feedback))
    port = bound.getsockname()[1]
    guard = GuardSettings(_HOST.value, port, token, _BODY.value, _RATE.value)
    host = _HOST.value.strip("[]")
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    cut = serve(
      guarded(app.asgi, guard, without_token=(*WITHOUT_TOKEN, PAGE)),
      bound,
      app,
      ready=lambda: print(f"{', '.join(models)}: {address}", flush=True),
      seconds=_GRACE.value,
    )
  if cut:
    print(f"error: {cut} answers were cut off, as they were not finished in time", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
  flags.run_plain(main, required=["model"], groups=_GROUPS)
