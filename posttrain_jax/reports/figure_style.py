"""Colours and style of figures that are saved as pictures, the same in all of them."""

INK, MUTED, RULE = "#1f2933", "#616e7c", "#d9dee4"
STYLE = {
  "font.size": 9,
  "text.color": INK,
  "axes.labelcolor": INK,
  "axes.edgecolor": RULE,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "axes.axisbelow": True,
  "grid.color": RULE,
  "grid.linewidth": 0.5,
  "xtick.color": RULE,
  "xtick.labelcolor": INK,
  "ytick.color": RULE,
  "ytick.labelcolor": INK,
}
