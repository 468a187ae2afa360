"""Tests, by the compiled text for a TPU, that `remat=host` keeps layers' inputs in the host's memory."""

import dataclasses
import importlib.util
import re

import pytest

from posttrain_jax.learner.division import Division
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.models.config import Remat
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.performance.compile import policy_programs, proof, topology
from posttrain_jax.performance.counts import group_pass
from tests.learner.settings import make_objective, make_optimizer_config
from tests.learner.small_policy import MODEL, TC, TP, G, P, make_batch

TOKENS = 256


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: launch/README.md")
def test_layer_inputs_wait_in_host_memory():
  mesh, division = make_mesh({}, topology.devices("v5e:2x2")[:1]), Division(P, TOKENS)
  kept, host_bytes = {}, {}
  for remat in (Remat.ATTENTION, Remat.HOST):
    model = dataclasses.replace(MODEL, compute_dtype="bfloat16", remat=remat, head_dim=128)
    learner = PolicyLearner(
      model, make_objective(), make_optimizer_config(), mesh, division, max_skipped_updates=1, seed=0, abstract=True
    )
    forward = group_pass(model, prompts=P, prompt_length=TP, answers=G, answer_length=TC)
    program = policy_programs.updates(learner, make_batch(), count=2, forward=forward)["update_off_policy"]
    compiled = proof.lower(program).compile()
    # Arrays of all layers' inputs, with the space of memory that they are in; 5 is the host's.
    stack = rf"bf16\[{model.num_layers},1,{TOKENS},{model.embed_dim}\]\{{[^}}]*?(S\(\d\))?\}}"
    kept[remat] = set(re.findall(stack, compiled.as_text()))
    host_bytes[remat] = compiled.memory_analysis().host_temp_size_in_bytes
  assert "S(5)" not in kept[Remat.ATTENTION] and host_bytes[Remat.ATTENTION] == 0
  assert kept[Remat.HOST] == {"S(5)"}
  inputs = model.num_layers * TOKENS * model.embed_dim * 2
  assert host_bytes[Remat.HOST] > 2 * inputs  # and attention's output, with more numbers a token
