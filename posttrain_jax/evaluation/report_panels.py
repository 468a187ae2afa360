"""Which curves the report shows: one panel a metric family, each from the keys of metrics.jsonl that it needs.

A panel whose keys are absent is left out, and so is a single absent curve.
"""

import dataclasses
import enum
import re
from collections.abc import Mapping, Sequence

import numpy as np

Columns = Mapping[str, np.ndarray]  # key → float64 [steps], NaN where a step has no such value; always with "step"


class Kind(enum.Enum):
  """How a panel is drawn."""

  LINES = enum.auto()
  STACKED = enum.auto()  # areas on top of each other that add up to a total
  LOG = enum.auto()  # lines on a logarithmic axis


@dataclasses.dataclass(frozen=True)
class Curve:
  """One curve of a panel.

  Attributes:
    key: its column.
    label: its name in the legend.
    color: number of its colour in the palette of `report_figures`.
    band: columns of the lower and upper end of its interval; None for none.
  """

  key: str
  label: str
  color: int
  band: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Panel:
  """One plot.

  Attributes:
    title: what it shows.
    unit: the y axis label, with the unit.
    curves: what is drawn, in this order.
    note: one sentence on how to read it.
    kind: how it is drawn.
    share: whether values lie in [0, 1].
    smooth: whether a running mean is drawn over many points.
    x_label: the x axis label.
  """

  title: str
  unit: str
  curves: tuple[Curve, ...]
  note: str = ""
  kind: Kind = Kind.LINES
  share: bool = False
  smooth: bool = True
  x_label: str = "step"


def _panel(
  title: str, unit: str, curves: Mapping[str, str], *, colors: Sequence[int] | None = None, **options
) -> Panel:
  """A panel of `curves`, column → label; colours are taken in order unless given."""
  colors = range(len(curves)) if colors is None else colors
  return Panel(title, unit, tuple(Curve(*curve, color) for curve, color in zip(curves.items(), colors)), **options)


_BOTH = "A gap between the two means that dynamic sampling changes what is trained on."

_TRAINING = (
  _panel(
    "Training accuracy",
    "share correct",
    {"accuracy/mean": "generated", "accuracy/trained": "trained on"},
    note="Groups that dynamic sampling keeps have both right and wrong answers: expect about one half.",
    share=True,
  ),
  _panel("Reward", "mean reward per answer", {"reward/mean": "all components, weighted"}),
  _panel("Answer length", "tokens", {"length/mean": "generated", "length/trained": "trained on"}, note=_BOTH),
  _panel(
    "Truncated answers",
    "share of answers",
    {"truncated/share": "generated", "truncated/trained_share": "trained on"},
    note=_BOTH,
  ),
  _panel("Entropy", "nats per token", {"entropy": "policy"}, note="A fall to zero is a collapse: nothing is explored."),
)

_SAMPLING = (
  _panel(
    "What dynamic sampling kept and dropped",
    "groups per step",
    {
      "sampling/groups_trained": "trained on",
      "sampling/carried": "carried over",
      "sampling/dropped_all_right": "dropped: all right",
      "sampling/dropped_all_wrong": "dropped: all wrong",
      "sampling/dropped_invalid": "dropped: invalid",
    },
    colors=(0, 5, 2, 1, 6),
    kind=Kind.STACKED,
    note="Groups whose answers are all right or all wrong have no advantage to learn from.",
  ),
  _panel(
    "Informative groups",
    "share of judged groups",
    {"sampling/informative_share": "informative"},
    note="Groups with both right and wrong answers.",
    share=True,
  ),
  _panel(
    "Cost of dynamic sampling",
    "tokens generated per token trained",
    {"sampling/generated_per_trained": "ratio"},
    note="1 would mean that every generated token is trained on.",
  ),
  _panel(
    "Staleness",
    "optimiser updates",
    {"sampling/staleness_mean": "mean", "sampling/staleness_max": "largest"},
    note="How many updates the parameters are ahead of those that drew the tokens.",
  ),
  _panel("Idle slots", "share of slot steps", {"sampling/idle_share": "idle"}, share=True),
)

_OPTIMISATION = (
  _panel("Loss", "loss per token", {"loss": "loss"}),
  _panel("Token accuracy", "share of target tokens", {"token_accuracy": "token accuracy"}, share=True),
  _panel("Gradient norm", "global norm, before clipping", {"grad_norm": "gradient norm"}),
  _panel(
    "Clipped tokens",
    "share of trained tokens",
    {"clip/low": "lower bound", "clip/high": "upper bound", "clip/dual": "dual clip"},
  ),
  _panel(
    "KL to the sampler",
    "nats per token",
    {"kl/k1_sampler": "k1", "kl/k3_sampler": "k3"},
    note="How far the learner is from the policy that drew the answers; k1 may be negative.",
  ),
  _panel("KL to the reference", "nats per token", {"kl/reference": "reference"}),
  _panel(
    "Engine mismatch",
    "|Δ log probability|, nats",
    {"mismatch/mean_abs_logprob": "mean", "mismatch/max_abs_logprob": "largest"},
    kind=Kind.LOG,
    note="Learner minus sampler, on the tokens that were drawn.",
  ),
  _panel("Largest probability ratio", "learner / old", {"ratio/max": "largest"}),
  _panel("Learning rate", "learning rate", {"learning_rate": "learning rate"}, smooth=False),
  _panel("Skipped updates", "updates", {"skipped_updates": "not finite"}, smooth=False),
)

_TIME = (
  _panel(
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
  _panel("Warm-up loss", "nats per token", {"loss": "loss"}, x_label="warm-up step"),
  _panel(
    "Warm-up token accuracy",
    "share of target tokens",
    {"token_accuracy": "token accuracy"},
    share=True,
    x_label="warm-up step",
  ),
)


def evaluation_sets(columns: Columns) -> dict[str, int]:
  """Names of the evaluation sets, in order of appearance, with the largest k that each has an avg@k for."""
  found: dict[str, int] = {}
  for key in columns:
    match = re.fullmatch(r"eval/([^/]+)/avg@(\d+)", key)
    if match:
      found[match[1]] = max(int(match[2]), found.get(match[1], 0))
  return found


def sections(columns: Columns) -> list[tuple[str, list[Panel]]]:
  """The report's curves: (heading, panels) in reading order, without what the run has no values for."""
  components = {key: key.removeprefix("reward/") for key in columns if key.startswith("reward/")}
  components.pop("reward/mean", None)
  rewards = _panel("Reward components", "mean per answer", components, note="Each before its weight.")
  held_out = [panel for name, k in evaluation_sets(columns).items() for panel in _held_out(columns, name, k)]
  return _present(
    columns,
    ("Evaluation", held_out),
    ("Training", [*_TRAINING[:2], rewards, *_TRAINING[2:]]),
    ("Dynamic sampling", _SAMPLING),
    ("Optimisation", _OPTIMISATION),
    ("Time", _TIME),
  )


def warm_up(columns: Columns) -> list[Panel]:
  """The panels of the supervised warm-up."""
  held_out = [
    dataclasses.replace(panel, title=f"Warm-up: {panel.title}", x_label="warm-up step")
    for name, k in evaluation_sets(columns).items()
    for panel in _held_out(columns, name, k)[:1]
  ]
  return [panel for _, panels in _present(columns, ("", [*held_out, *_WARM_UP])) for panel in panels]


def _held_out(columns: Columns, name: str, k: int) -> list[Panel]:
  at = f"eval/{name}/"
  average, band = f"{at}avg@{k}", (f"{at}avg@{k}_low", f"{at}avg@{k}_high")
  has_band = set(band) <= set(columns)
  accuracy = [Curve(average, f"avg@{k}, 95 % interval" if has_band else f"avg@{k}", 0, band if has_band else None)]
  for color, metric in enumerate(("greedy", f"maj@{k}", f"pass@{k}"), 1):
    accuracy.append(Curve(f"{at}{metric}", metric, color))
  levels = [re.fullmatch(rf"{re.escape(at)}difficulty/([^/]+)/avg@{k}", key) for key in columns]
  return [
    Panel(f"{name}: accuracy", "share correct", tuple(accuracy), share=True, smooth=False),
    _panel(
      f"{name}: avg@{k} by difficulty", "share correct", {level[0]: level[1] for level in levels if level}, share=True
    ),
    _panel(f"{name}: answer length", "tokens", {f"{at}length": "mean"}),
    _panel(f"{name}: truncated answers", "share of answers", {f"{at}truncated": "truncated"}),
  ]


def _present(columns: Columns, *wanted: tuple[str, Sequence[Panel]]) -> list[tuple[str, list[Panel]]]:
  has = lambda key: key in columns and bool(np.isfinite(columns[key]).any())  # noqa: E731
  result = []
  for heading, panels in wanted:
    kept = [dataclasses.replace(panel, curves=tuple(c for c in panel.curves if has(c.key))) for panel in panels]
    kept = [panel for panel in kept if panel.curves]
    if kept:
      result.append((heading, kept))
  return result
