from matplotlib.image import imread

from posttrain_jax.reports.category_figure import plot_categories


def test_a_picture_has_a_panel_for_each_measure(tmp_path):
  shares = {"fire": (0.5, 0.4, 0.6), "theft": (1.0, 1.0, 1.0)}
  sizes = []
  for number in (1, 2):
    panels = {f"measure {i}": {"one": shares, "other": shares} for i in range(number)}
    plot_categories(tmp_path / "made.png", panels, ["fire", "theft"])
    sizes.append(imread(tmp_path / "made.png").shape)
  assert sizes[1][0] == 2 * sizes[0][0] and sizes[0][1] == sizes[1][1]
