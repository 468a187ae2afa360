"""Names the losses on preferences, for reward models and for policies.

Every function returns one loss per comparison (`kto`: one per answer), to be minimised after a mean. The logprob of an
answer is the sum over its counted tokens. The exceptions are `simpo` and `orpo`: their arguments are means over tokens,
and the names end in `_mean`.

For a reward model: `losses.reward_model`. Relative to a frozen reference: `losses.direct_preference` and
`losses.direct_preference_variants`. Without a reference: `losses.reference_free`.
"""

from posttrain_jax.losses.direct_preference import dpo as dpo
from posttrain_jax.losses.direct_preference import dpop as dpop
from posttrain_jax.losses.direct_preference import hinge as hinge
from posttrain_jax.losses.direct_preference import implicit_reward as implicit_reward
from posttrain_jax.losses.direct_preference import ipo as ipo
from posttrain_jax.losses.direct_preference import kto as kto
from posttrain_jax.losses.direct_preference import robust as robust
from posttrain_jax.losses.direct_preference_variants import aot as aot
from posttrain_jax.losses.direct_preference_variants import aot_unpaired as aot_unpaired
from posttrain_jax.losses.direct_preference_variants import apo_down as apo_down
from posttrain_jax.losses.direct_preference_variants import apo_zero as apo_zero
from posttrain_jax.losses.direct_preference_variants import discopop as discopop
from posttrain_jax.losses.direct_preference_variants import exo as exo
from posttrain_jax.losses.direct_preference_variants import nca as nca
from posttrain_jax.losses.direct_preference_variants import sppo as sppo
from posttrain_jax.losses.reference_free import cpo as cpo
from posttrain_jax.losses.reference_free import orpo as orpo
from posttrain_jax.losses.reference_free import simpo as simpo
from posttrain_jax.losses.reward_model import bradley_terry as bradley_terry
from posttrain_jax.losses.reward_model import ranked_bradley_terry as ranked_bradley_terry
