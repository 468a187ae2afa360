"""Lists the report's panels of PPO: value model, KL penalty and additional text losses."""

from posttrain_jax.reports.panel import Panel, panel

PANELS: tuple[Panel, ...] = (
  panel("Value loss", "½ squared error per token", {"value/unscaled_loss": "training, clipped"}),
  panel(
    "Explained variance of the returns",
    "share",
    {"value/explained_variance": "before the step's updates"},
    note="1: the values predict every return. 0 or less: they are no better than a constant.",
  ),
  panel(
    "Returns and values",
    "reward",
    {"returns/mean": "mean return", "value/mean": "mean value", "returns/std": "standard deviation of returns"},
    colors=(0, 1, 6),
  ),
  panel("Values outside their clip", "share of trained tokens", {"value/clipped": "moved further than the bound"}),
  panel(
    "KL to the reference per answer",
    "nats per answer",
    {"kl/answer": "KL(policy ‖ reference)"},
    note="An adaptive coefficient keeps this at its target.",
    noise=1e-5,
  ),
  panel("KL coefficient", "reward per nat", {"kl/coefficient": "β"}, smooth=False),
  panel("Answers without an end", "share of answers", {"no_end/share": "ran into the cap"}, share=True),
  panel("Additional text losses", "nats per token", {"ptx/loss": "pretraining text", "nll/correct": "correct answers"}),
)
