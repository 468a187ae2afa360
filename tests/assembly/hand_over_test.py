import jax
import numpy as np

from posttrain_jax.assembly.hand_over import hand_over_of_learner, sampler_params
from posttrain_jax.assembly.model import Policy
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.small_policy import MODEL, make_learner
from tests.random_params import random_params


def test_a_policy_at_rest_gives_its_layers_as_a_list():
  params, mesh = random_params(MODEL), make_mesh({}, jax.devices()[:1])
  found = sampler_params(Policy(MODEL, tiny_tokenizer("ab"), params), mesh)
  assert sorted(found["blocks"]) == list(range(MODEL.num_layers))
  query, stacked = found["blocks"][1]["attention"]["query"], params["blocks"]["attention"]["query"]
  np.testing.assert_array_equal(np.asarray(query[...]), np.asarray(stacked[...])[1])


def test_a_learners_hand_over_is_that_of_its_parameters():
  learner = make_learner()
  hand_over = hand_over_of_learner(learner, MODEL, learner.mesh)
  found = hand_over(learner.state.params)
  np.testing.assert_array_equal(np.asarray(found["embed"][...]), np.asarray(learner.state.params["embed"][...]))
