import numpy as np
from matplotlib import image

from posttrain_jax.studies import best_of_n, overoptimization_figure
from posttrain_jax.studies.overoptimization_figure import ProxyCurves, Study

NS = [1, 2, 4, 16, 64, 256]


def made_study():
  """Makes three proxies on 30 prompts, the smallest of which is over-optimised."""
  d = np.sqrt(best_of_n.kl_bound(np.array(NS)))
  offsets = np.random.default_rng(0).normal(scale=0.3, size=(30, 1))
  proxies = []
  for pairs, beta in ((30, 0.5), (300, 0.3), (3000, 0.15)):
    gold, proxy = 0.6 + offsets + d * (0.9 - beta * d), 0.6 + offsets + d
    fit = best_of_n.fit(gold, NS, resamples=20)
    proxies.append(ProxyCurves(pairs, best_of_n.curve(gold), best_of_n.curve(proxy), fit))
  return Study(best_of_n.curve(0.6 + offsets + 0.8 * d), proxies)


def test_the_picture_is_written_and_has_ink_of_every_proxy(tmp_path):
  study = made_study()
  overoptimization_figure.draw(tmp_path / "figure.png", NS, study)
  pixels = image.imread(tmp_path / "figure.png")[..., :3]
  assert pixels.shape[1] > 1000
  for color in overoptimization_figure._colors(3):
    assert (np.abs(pixels - color[:3]).max(axis=-1) < 0.01).sum() > 500


def test_curves_of_equal_numbers_are_drawn(tmp_path):
  flat = best_of_n.curve(np.ones((4, len(NS))))
  fit = best_of_n.fit(np.ones((4, len(NS))), NS, resamples=20)
  overoptimization_figure.draw(tmp_path / "figure.png", NS, Study(flat, [ProxyCurves(10, flat, flat, fit)]))
  assert (tmp_path / "figure.png").stat().st_size > 1000
