"""Draws shares of several models by category, as bars with intervals."""

import pathlib
from collections.abc import Mapping, Sequence

from posttrain_jax.reports.picture import COLORS, INK, picture

Shares = Mapping[str, tuple[float, float, float]]  # category → value, low, high


def plot_categories(
  path: str | pathlib.Path, panels: Mapping[str, Mapping[str, Shares]], categories: Sequence[str]
) -> None:
  """Writes a picture with a panel of bars for each measure.

  Args:
    path: of the PNG.
    panels: title to model to shares.
    categories: in order.
  """
  with picture(path, width=7.2, height=2.4 * len(panels)) as figure:
    for axes, (title, models) in zip(figure.subplots(len(panels), 1, squeeze=False).ravel(), panels.items()):
      width = 0.8 / len(models)
      for number, (name, shares) in enumerate(models.items()):
        places = [i + (number - (len(models) - 1) / 2) * width for i in range(len(categories))]
        values = [shares[category] for category in categories]
        errors = [[value - low for value, low, _ in values], [high - value for value, _, high in values]]
        heights = [value for value, _, _ in values]
        axes.bar(places, heights, width, color=COLORS[number % len(COLORS)], label=name)
        axes.errorbar(places, heights, yerr=errors, fmt="none", ecolor=INK, elinewidth=0.6)
      axes.set_title(title, loc="left", fontsize=9)
      axes.set_xticks(range(len(categories)), categories)
      axes.set_ylim(0, 1)
    figure.axes[0].legend(frameon=False, fontsize=7, ncols=len(next(iter(panels.values()))))
