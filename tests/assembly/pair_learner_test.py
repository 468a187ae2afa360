import jax

from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.pair_learner import pair_learner
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.preference import PreferenceLoss
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.settings import make_optimizer_config, make_preference_objective

TOKENIZER = tiny_tokenizer("ab")
MODEL = TransformerConfig(TOKENIZER.vocab_size, 1, 8, 16, 2, 1, 4)


def test_an_abstract_learner_has_programs_and_no_array():
  objective = make_preference_objective(PreferenceLoss.DPO, {"beta": 0.1})
  learner = pair_learner(
    Policy(MODEL, TOKENIZER),
    objective,
    make_optimizer_config(learning_rate=0.25),
    make_mesh({}, jax.devices()[:1]),
    Division(prompts_per_update=2, budget=10),
    seed=0,
    max_skipped_updates=3,
    abstract=True,
  )
  assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(learner.state))
  assert learner.skipped.most == 3 and float(learner.learning_rate(5)) == 0.25
