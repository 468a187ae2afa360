"""Trains a model on what people said of its answers, talking with it or as raters.

    python -m experiments.serve --model=PATH_OR_NAME --feedback=DIR
    python -m experiments.label --workdir=LABELS --export
    python -m experiments.recipe --recipe=configs/recipes/next_round.py --config.base=PATH_OR_NAME \
        --config.feedback=DIR --config.labels=LABELS/export --workdir=runs/next_round

Each of the two may be left out (`--config.feedback=`). docs/chatting.md says what is in DIR, docs/labelling.md what is
in LABELS; pairs were labelled there. The recipe learns from it as it is when a stage starts; what people say later
makes the stages that read it run again. docs/next_round.md walks through all of it.

    demonstrations   edits, and answers with a thumb up
    preferences      votes and labels, and each edit on the page over the answer that was edited
    sft              from the model that people talked with, on the demonstrations
    dpo              from `sft`, on the preferences

With `--config.train=dpo` or `--config.train=sft` the other one is left out. `--config.train=kto` has two other stages:

    thumbs           answers with a thumb up or down; of labels, those that were accepted or rejected
    kto              from the model that people talked with, on the thumbs
"""

from ml_collections import ConfigDict

from configs import tiny_dpo, tiny_sft
from configs.recipes.costs import started
from posttrain_jax.recipes import joining
from posttrain_jax.recipes.recipe import Stage, seeded
from posttrain_jax.recipes.runners import DPO, JOIN, SFT
from posttrain_jax.serving.feedback_store import FeedbackFile
from posttrain_jax.types import InputError

_TRAINS = ("both", "sft", "dpo", "kto")
_AS_ASKED = "{prompt}"
_FEEDBACK = {
  "demonstrations": dict(edits=FeedbackFile.EDITS, liked=FeedbackFile.LIKED),
  "preferences": dict(edits=FeedbackFile.EDITS, votes=FeedbackFile.VOTES),
  "thumbs": dict(disliked=FeedbackFile.DISLIKED, liked=FeedbackFile.LIKED),
}
_LABELS = {  # of posttrain_jax/labelling/export.py
  "demonstrations": dict(label_edits="demonstrations.jsonl"),
  "preferences": dict(labels="pairs.jsonl"),
  "thumbs": dict(accepted="demonstrations.jsonl", rejected="rejected.jsonl"),  # of --kind=accept
}


def get_config(arg: str = "") -> ConfigDict:
  config = started(arg, "tiny")
  config.topology = ""  # a run
  config.base = "smollm2-135m-instruct"  # PATH_OR_NAME of the model that people talked with
  config.feedback = "feedback"  # the server's --feedback; empty for none
  config.labels = ""  # the folder that experiments.label exports; empty for none
  config.train = "both"  # both (sft and dpo), sft, dpo or kto
  config.rows = 100  # of each file, for an estimate before it is there
  config.sft = _sft()
  config.dpo = _preferring("dpo")
  config.dpo.update(batch_size=8)
  config.dpo.objective.nll_weight = 0.2  # so that chosen answers do not become less likely
  config.kto = _preferring("kto_single")
  config.kto.update(batch_size=32)  # the estimate of the KL is over so many answers, if a micro-batch holds them
  return config


def get_stages(config: ConfigDict) -> list[Stage]:
  if config.train not in _TRAINS:
    raise InputError(f"train: {config.train!r}, expected one of {', '.join(_TRAINS)}")
  if not (config.feedback or config.labels):
    raise InputError("feedback, labels: both are empty, expected a folder of what people said")
  stages, model = [], config.base
  if config.train == "kto":
    return _preference_stages(config, "thumbs", "kto", model, labels="check")
  if config.train != "dpo":
    data = _joined(config, "demonstrations")
    inputs = {"model.path": model, "demonstrations.path": data.file(joining.ROWS)}
    own = seeded(config.sft, config.seed)
    sft = Stage("sft", run=SFT, config=own, inputs=inputs, labels="demonstration")
    stages, model = [data, sft], sft.model
  if config.train != "sft":
    stages += _preference_stages(config, "preferences", "dpo", model, labels="comparison")
  return stages


def _preference_stages(config: ConfigDict, data: str, name: str, model: str, *, labels: str) -> list[Stage]:
  """Returns the stages that join answers that people judged, and that train a model on them."""
  joined = _joined(config, data)
  inputs = {"model.path": model, "preferences.path": joined.file(joining.ROWS)}
  own = seeded(config[name], config.seed)
  return [joined, Stage(name, run=DPO, config=own, inputs=inputs, labels=labels)]


def _joined(config: ConfigDict, name: str) -> Stage:
  """Returns the stage that joins files of feedback and labels."""
  files = {}
  for folder, read in ((config.feedback, _FEEDBACK), (config.labels, _LABELS)):
    files |= {each: f"{folder}/{file}" for each, file in read[name].items() if folder}
  return Stage(
    name,
    run=JOIN,
    config=joining.files(**dict.fromkeys(files, _AS_ASKED)),
    inputs={f"files.{each}.path": path for each, path in files.items()},
    rows={f"files.{each}.path": config.rows for each in files},
  )


def _sft() -> ConfigDict:
  config = tiny_sft.get_config()
  config.model = _model()
  config.update(steps=0, epochs=2, batch_size=4, logprob_chunk=512)
  # Rows of messages are chats by themselves; the prompt of a model without a chat template is text.
  config.demonstrations.update(row_length=1024, max_completion=0, too_long="drop")
  config.optimizer.update(learning_rate=2e-5, warmup_updates=0, decay_updates=0, b2=0.999)
  return _quiet(config)


def _preferring(method: str) -> ConfigDict:
  config = tiny_dpo.get_config(method)
  config.model = _model()
  config.update(epochs=1)
  config.warmup.steps = 0
  config.preferences.update(max_prompt_length=1024, max_answer_length=513, too_long="drop", bad_rows="drop")
  config.preferences.update(held_out=0.0, strengths=())
  config.objective.logprob_chunk = 512
  config.optimizer.update(learning_rate=5e-6, warmup_updates=0, b2=0.999)
  config.eval.kl = False
  return _quiet(config)


def _model() -> ConfigDict:
  return ConfigDict(dict(path="", compute_dtype="float32", remat="none", unroll=1))


def _quiet(config: ConfigDict) -> ConfigDict:
  config.eval.every = 0
  config.checkpoint.update(every=1000, keep=1)
  config.logging.update(tensorboard=False, report=False)
  return config
