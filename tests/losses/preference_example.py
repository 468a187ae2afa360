"""Lists the preference losses with settings for the tests; has one comparison by hand and random logprobs."""

import functools
import math

import jax.numpy as jnp
import numpy as np

from posttrain_jax.losses import preference

# Losses of (policy chosen, policy rejected, reference chosen, reference rejected) ...
DIRECT = {
  "dpo": functools.partial(preference.dpo, beta=0.5),
  "cdpo": functools.partial(preference.dpo, beta=0.5, label_smoothing=0.1),
  "robust": functools.partial(preference.robust, beta=0.5, label_smoothing=0.1),
  "dpop": functools.partial(preference.dpop, beta=0.5, penalty=5.0),
  "ipo": functools.partial(preference.ipo, tau=0.2),
  "hinge": functools.partial(preference.hinge, beta=0.5),
}
VARIANTS = {
  "sppo": functools.partial(preference.sppo, beta=0.5),
  "exo": functools.partial(preference.exo, beta=0.5, label_smoothing=0.1),
  "nca": functools.partial(preference.nca, beta=0.5),
  "aot": functools.partial(preference.aot, beta=0.5, label_smoothing=0.1),
  "aot_unpaired": functools.partial(preference.aot_unpaired, beta=0.5, label_smoothing=0.1),
  "apo_zero": functools.partial(preference.apo_zero, beta=0.5),
  "apo_down": functools.partial(preference.apo_down, beta=0.5),
  "discopop": functools.partial(preference.discopop, beta=0.5, temperature=0.2),
}
RELATIVE = DIRECT | VARIANTS


def kto_of_pairs(chosen, rejected, reference_chosen, reference_rejected):
  """Computes KTO, with the chosen answers as desirable ones and the rejected as undesirable."""
  call = functools.partial(preference.kto, kl=0.3, beta=0.5, desirable_weight=1.2)
  chosen = call(chosen, reference_chosen, jnp.ones(jnp.shape(chosen), bool))
  return chosen + call(rejected, reference_rejected, jnp.zeros(jnp.shape(rejected), bool))


# ... and of the first two alone.
FREE = {
  "cpo": functools.partial(preference.cpo, beta=0.5),
  "simpo": functools.partial(preference.simpo, beta=2.5, gamma=1.375),
  "orpo": functools.partial(preference.orpo, weight=0.1),
  "bradley_terry": functools.partial(preference.bradley_terry, margin=0.3, centering=0.01),
}
# All of them as functions of four arrays.
LOSSES = {**RELATIVE, "kto": kto_of_pairs} | {name: lambda c, r, *_, f=f: f(c, r) for name, f in FREE.items()}


def example(pairs=5, seed=0, dtype=np.float32):
  rng = np.random.default_rng(seed)
  reference = -rng.uniform(1, 4, (2, pairs))
  policy = np.minimum(reference + rng.normal(size=(2, pairs)), -0.05)
  return tuple(x.astype(dtype) for x in (*policy, *reference))


def log_sigmoid(x):
  return -math.log1p(math.exp(-x))


def sigmoid(x):
  return 1 / (1 + math.exp(-x))


def assert_by_hand(name, expected):
  """Checks the loss of one comparison with u = 2, v = −1 and Δ = 3.

  Here u = −1 − (−3) and v = −5 − (−4).

  With β = .5, βu = 1, βv = −½ and βΔ = 1.5.
  """
  loss = LOSSES[name](*(np.array([x]) for x in (-1.0, -5.0, -3.0, -4.0)))
  np.testing.assert_allclose(loss, [expected], rtol=1e-13, atol=1e-15)
