"""Chooses the curves that the report shows: one panel for each family of metrics.

A curve whose key is not in metrics.jsonl is left out, and so is a panel without curves. `sampling_panels` has the
panels of dynamic sampling, `preference_panels` those of reward models and of direct preference methods, `ppo_panels`
those of PPO.
"""

import dataclasses
import re

from posttrain_jax.reports import ppo_panels, preference_panels, sampling_panels
from posttrain_jax.reports.panel import (
  Columns,
  Kind,
  Panel,
  PanelCurve,
  evaluation_sets,
  panel,
  present,
  with_interval,
)

# Rounding in float32 of what is 0 for unmoved parameters: logprobs differ in the 7th digit.
_TOKEN_NOISE, _ANSWER_NOISE = 1e-6, 1e-5  # nats a token, nats an answer
_BOTH = "A gap between the two means that dynamic sampling changes what is trained on."

_TRAINING = (
  panel(
    "Training accuracy",
    "share correct",
    {"accuracy/mean": "generated", "accuracy/trained": "trained on"},
    note="Groups that dynamic sampling keeps have both right and wrong answers: expect about one half.",
    share=True,
  ),
  panel("Reward", "mean reward per answer", {"reward/mean": "all components, weighted"}),
  panel("Answer length", "tokens", {"length/mean": "generated", "length/trained": "trained on"}, note=_BOTH),
  panel(
    "Truncated answers",
    "share of answers",
    {"truncated/share": "generated", "truncated/trained_share": "trained on"},
    note=_BOTH,
  ),
  panel("Entropy", "nats per token", {"entropy": "policy"}, note="At zero, exploration has collapsed."),
)

_OPTIMISATION = (
  panel("Gradient norm", "global norm, before clipping", {"grad_norm": "gradient norm"}),
  panel(
    "Clipped tokens",
    "share of trained tokens",
    {"clip/low": "lower bound", "clip/high": "upper bound", "clip/dual": "dual clip"},
  ),
  panel(
    "KL to the sampler",
    "nats per token",
    {"kl/k1_sampler": "k1", "kl/k3_sampler": "k3"},
    note="How far the learner is from the policy that drew the answers; k1 may be negative.",
    noise=_TOKEN_NOISE,
  ),
  panel("KL to the reference", "nats per token", {"kl/reference": "reference"}, noise=_TOKEN_NOISE),
  panel(
    "Engine mismatch",
    "|Δ log probability|, nats",
    {"mismatch/mean_abs_logprob": "mean", "mismatch/max_abs_logprob": "largest"},
    kind=Kind.LOG,
    note="Learner minus sampler, on the tokens that were drawn.",
  ),
  panel("Largest probability ratio", "learner / old", {"ratio/max": "largest"}),
  panel("Learning rate", "learning rate", {"learning_rate": "learning rate"}, smooth=False),
  panel(
    "Largest token loss",
    "nats",
    {"nll_max": "largest of the update"},
    note="High if a text has a token that the model finds very unlikely.",
  ),
  panel("Skipped updates", "updates", {"skipped_updates": "not finite"}, smooth=False),
)

_TIME = (
  panel(
    "Time per step",
    "seconds",
    {
      "time/rollout": "rollout",
      "time/train": "train",
      "time/reward": "reward",
      "time/handover": "hand-over",
      "time/eval": "evaluation",
    },
    colors=(0, 1, 2, 3, 6),
    kind=Kind.STACKED,
  ),
)

_WARM_UP = (
  panel("Warm-up loss", "nats per token", {"loss": "loss"}, x_label="warm-up step"),
  panel("Warm-up gradient norm", "global norm, before clipping", {"grad_norm": "norm"}, x_label="warm-up step"),
)


def sections(columns: Columns) -> list[tuple[str, list[Panel]]]:
  """Returns (heading, panels) in reading order, without panels that have no values in this run."""
  taken = {"reward/mean", "reward/invalid", *preference_panels.implicit_rewards(columns)}
  components = {key: key.removeprefix("reward/") for key in columns if key.startswith("reward/") and key not in taken}
  rewards = panel("Reward components", "mean per answer", components, note="Each before its weight.")
  held_out = [each for name, k in evaluation_sets(columns).items() for each in _held_out(columns, name, k)]
  perplexity = panel(
    "Perplexity of held-out demonstrations", "exp(nats per token)", {"eval/validation/perplexity": "validation"}
  )
  training = [*_TRAINING[:2], rewards, *_TRAINING[2:]]
  if "accuracy/trained" not in columns:  # the notes compare what is generated with what is trained on
    training = [dataclasses.replace(each, note="") for each in training]
  wanted = (
    ("Evaluation", [*held_out, perplexity]),
    ("Reward model", preference_panels.reward_model(columns)),
    ("Preferences", preference_panels.direct_preference(columns)),
    ("Training", training),
    ("Values and KL", ppo_panels.PANELS),
    ("Sampling", sampling_panels.panels(columns)),
    ("Optimisation", [_loss(columns), *_OPTIMISATION]),
    ("Time", _TIME),
  )
  found = [(heading, present(columns, panels)) for heading, panels in wanted]
  return [(heading, panels) for heading, panels in found if panels]


def warm_up(columns: Columns) -> list[Panel]:
  """Returns the panels of the supervised warm-up."""
  held_out = [
    dataclasses.replace(each, title=f"Warm-up: {each.title}", x_label="warm-up step")
    for name, k in evaluation_sets(columns).items()
    for each in _held_out(columns, name, k)[:1]
  ]
  return present(columns, [*held_out, *_WARM_UP])


def _loss(columns: Columns) -> Panel:
  """Returns the panel of training and held-out loss, in the method's unit."""
  unit = "loss per token"
  if "nll_max" in columns:
    unit = "nats per token"
  elif "logprob/chosen" in columns:
    unit = "loss per pair"
  elif "margin" in columns:
    unit = "loss per prompt"
  held_out = {"eval/validation/loss": "held-out demonstrations", "eval/heldout/log_loss": "held-out comparisons"}
  return panel("Loss", unit, {"loss": "training", **held_out})


def _held_out(columns: Columns, name: str, k: int) -> list[Panel]:
  at = f"eval/{name}/"
  accuracy = [with_interval(columns, f"{at}avg@{k}", f"avg@{k}", 0)]
  for color, metric in enumerate(("greedy", f"maj@{k}", f"pass@{k}"), 1):
    accuracy.append(PanelCurve(f"{at}{metric}", metric, color))
  levels = [re.fullmatch(rf"{re.escape(at)}difficulty/([^/]+)/avg@{k}", key) for key in columns]
  reward = with_interval(columns, f"{at}reward", "mean", 0)
  return [
    Panel(f"{name}: accuracy", "share correct", tuple(accuracy), share=True, smooth=False),
    panel(
      f"{name}: avg@{k} by difficulty", "share correct", {level[0]: level[1] for level in levels if level}, share=True
    ),
    Panel(f"{name}: score of the reward model", "reward per answer", (reward,), smooth=False),
    panel(f"{name}: answer length", "tokens", {f"{at}length": "mean"}),
    panel(f"{name}: truncated answers", "share of answers", {f"{at}truncated": "truncated"}),
    panel(
      f"{name}: KL to the reference",
      "nats per answer",
      {f"{at}kl_to_reference": "KL(policy ‖ reference)"},
      note="On answers that the policy drew; the reference is the policy before training.",
      noise=_ANSWER_NOISE,
    ),
    panel(
      f"{name}: KL to the start",
      "nats per answer",
      {f"{at}kl_to_start": "KL(policy ‖ start)"},
      note="On answers that the policy drew; the start is the policy before reinforcement learning.",
      noise=_ANSWER_NOISE,
    ),
  ]
