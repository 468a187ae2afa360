"""Tests, by the compiled text for a TPU, that programs whose logprobs are compared round alike."""

import collections
import dataclasses
import importlib.util
import re

import jax
import pytest

from posttrain_jax.learner.division import Division
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.models.config import Remat
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.performance.compile import policy_programs, proof, topology
from posttrain_jax.performance.compile.program import Program
from posttrain_jax.performance.counts import group_pass
from tests.learner.settings import make_objective, make_optimizer_config
from tests.learner.small_policy import MODEL, TC, TP, G, P, make_batch

_INSTRUCTION = re.compile(r"\s+(?P<root>ROOT )?%(?P<name>[\w.\-]+) = (?P<type>\(.*?\)|\S+) (?P<op>[\w\-]+)\((?P<of>.*)")


def sums_of_rounded(text: str) -> list[bool]:
  """Finds the float32 sums of two bfloat16 numbers, which the program writes as bfloat16.

  Args:
    text: a compiled program, in which a computation ends with a line "}".

  Returns:
    For each sum, whether it is rounded before anything else uses it. A sum that its computation returns is not.
  """
  found = []
  for computation in re.split(r"\n}\n", text):
    made, users = {}, collections.defaultdict(list)
    for match in filter(None, map(_INSTRUCTION.match, computation.splitlines())):
      made[match["name"]] = match
      for operand in _operands(match):
        users[operand].append(match)
    for name, match in made.items():
      operands = [made.get(operand) for operand in _operands(match)]
      if match["op"] == "add" and match["type"].startswith("f32") and all(_widened(x, made) for x in operands):
        found.append(not match["root"] and all(map(_rounds, users[name])))
  return found


def _operands(match: re.Match) -> list[str]:
  return re.findall(r"%([\w.\-]+)", match["of"].partition(")")[0])


def _widened(match: re.Match | None, made: dict[str, re.Match]) -> bool:
  if match is None or match["op"] != "convert":
    return False
  source = made.get(_operands(match)[0])
  return source is not None and source["type"].startswith("bf16")


def _rounds(match: re.Match) -> bool:
  to_bfloat16 = match["op"] == "convert" and match["type"].startswith("bf16")
  return to_bfloat16 or (match["op"] == "reduce-precision" and "exponent_bits=8, mantissa_bits=7" in match["of"])


def test_a_sum_that_is_used_before_it_is_rounded_is_found():
  text = """%f (a: bf16[4], b: bf16[4]) -> f32[4] {
  %a = bf16[4]{0} parameter(0)
  %b = bf16[4]{0} parameter(1)
  %x = f32[4]{0} convert(%a)
  %y = f32[4]{0} convert(%b)
  %sum = f32[4]{0} add(%x, %y)
  %rounded = f32[4]{0} reduce-precision(%sum), exponent_bits=8, mantissa_bits=7
  %more = f32[4]{0} add(%rounded, %y)
  ROOT %square = f32[4]{0} multiply(%more, %OTHER)
}
"""
  assert sums_of_rounded(text.replace("OTHER", "rounded")) == [True]
  assert sums_of_rounded(text.replace("OTHER", "sum")) == [False]
  assert sums_of_rounded(text.replace("ROOT ", "").replace("%sum =", "ROOT %sum =")) == [False]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: launch/README.md")
@pytest.mark.parametrize("remat", [Remat.NONE, Remat.FULL])
def test_on_a_tpu_every_sum_of_the_residual_stream_is_rounded(remat):
  model = dataclasses.replace(MODEL, compute_dtype="bfloat16", remat=remat, unroll=2, head_dim=128)
  mesh, division = make_mesh({}, topology.devices("v5e:2x2")[:1]), Division(P, 256)
  objective, optimizer = make_objective(), make_optimizer_config()
  learner = PolicyLearner(model, objective, optimizer, mesh, division, max_skipped_updates=1, seed=0, abstract=True)
  params, batch = learner.state.params, make_batch()
  forward = group_pass(model, prompts=P, prompt_length=TP, answers=G, answer_length=TC)
  score = policy_programs.scoring(learner.scorer, params, batch, mesh, calls=1, forward=forward, of="policy")
  update = policy_programs.updates(learner, batch, count=2, forward=forward)["update_off_policy"]
  for program, least in ((score, 4), (update, 4)):  # two a layer
    found = sums_of_rounded(proof.lower(program).compile().as_text())
    assert len(found) >= least and all(found)
  assert not all(sums_of_rounded(_without_options(score).compile().as_text()))  # what the options are for


def _without_options(program: Program) -> jax.stages.Lowered:
  return proof.lower(dataclasses.replace(program, function=jax.jit(program.function.__wrapped__)))
