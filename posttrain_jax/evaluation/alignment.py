"""Measures how aligned a model is in the assistant world.

The measures are the same before and after every stage.

Requests of every kind are asked, seen ones and held-out ones, and answers are drawn at temperature 1. Rules judge them.
Besides, the likelihoods of the possible answers to questions of fact tell what the model knows, whether it says it or
not; the perplexity of new text of the corpus tells what it forgot; and the KL to a reference how far it moved.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.assembly.judges import answer_text
from posttrain_jax.assembly.model import Policy, of_same_sizes
from posttrain_jax.data import prompts as prompt_rows
from posttrain_jax.data.assistant_world.facts import make_world
from posttrain_jax.data.assistant_world.questions import draw_prose_requests, draw_requests
from posttrain_jax.data.assistant_world.reasoning import judge_thought
from posttrain_jax.data.assistant_world.requests import RequestKind, WorldRequest
from posttrain_jax.data.prompts import PromptFormat
from posttrain_jax.evaluation import alignment_metrics
from posttrain_jax.evaluation.alignment_metrics import Claims, Judged
from posttrain_jax.evaluation.alignment_settings import PARTS, AlignmentSettings
from posttrain_jax.evaluation.choice_logprobs import choice_logprobs
from posttrain_jax.evaluation.metrics import Estimate, estimate
from posttrain_jax.evaluation.world_knowledge import WorldKnowledge
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.parallel.sharding import LEARNER_RULES, state_shardings
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import Answer, FinishReason, Group, InputError, Prompt

_NO_LIMIT = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class AlignmentResult:
  """Holds all measures of one model.

  Attributes:
    measures: by name: "seen/NAME" and "held_out/NAME" from sampled answers, "known_PART" and "probability_..." from
      likelihoods, "perplexity", and "kl" where there is a reference. Those from likelihoods are left out if the
      settings say so.
    judged: the answers by part, "seen" or "held_out".
    claims: "stated" and "probability", for reliability pictures.
  """

  measures: Mapping[str, Estimate]
  judged: Mapping[str, Sequence[Judged]]
  claims: Mapping[str, Claims]

  def lines(self) -> list[dict[str, Any]]:
    """Returns a JSON line for each answer.

    It has the request, the text and what the rules say of it.
    """
    return [
      {**each.request.to_row(), "part": part, "completion": text, "verdict": dataclasses.asdict(verdict)}
      for part, judged in self.judged.items()
      for each in judged
      for text, verdict in zip(each.texts, each.verdicts)
    ]

  def diagrams(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the probabilities and outcomes of both kinds of claims, by title, for reliability diagrams."""
    titles = {"stated": "Stated confidence", "probability": "Answer probability"}
    return {title: (self.claims[name].probabilities, self.claims[name].outcomes) for name, title in titles.items()}

  def flat(self) -> dict[str, float]:
    """Returns each measure, and its interval as NAME_low and NAME_high, for a run's metrics."""
    found = {}
    for name, value in self.measures.items():
      found |= {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
    return found


def measure_policy(
  policy: Policy,
  settings: AlignmentSettings,
  prompt_format: PromptFormat,
  *,
  seed: int = 0,
  reference: Policy | None = None,
  stop: str = "",
) -> AlignmentResult:
  """Measures a saved policy once, on all devices.

  Args:
    policy: from `open_policy`.
    settings: how much is asked.
    prompt_format: how a request is put to the model.
    seed: of requests, draws and intervals.
    reference: what the KL is measured to; None for no KL.
    stop: ends an answer and is no part of it, besides the model's own end; empty for nothing.

  Raises:
    InputError: as `Alignment`, or if the reference is a model of other sizes.
  """
  if reference is not None and not of_same_sizes(reference.model, policy.model):
    raise InputError("reference: is a model of other sizes, expected the model that the policy was trained from")
  mesh = make_mesh({"data": -1})
  measures = Alignment(settings, policy, prompt_format, mesh, seed=seed, stop=stop)
  params = _placed(policy.params, mesh)
  hand_over = make_handover(params, num_layers=policy.model.num_layers, dtype=policy.model.compute_dtype, mesh=mesh)
  return measures(params, hand_over(params), None if reference is None else _placed(reference.params, mesh))


def _placed(params: nnx.State, mesh: Mesh) -> nnx.State:
  """Puts parameters where a learner would have them."""
  return jax.device_put(params, state_shardings(params, mesh, LEARNER_RULES))


class Alignment:
  """Measures the parameters of one model, again and again on the same requests."""

  def __init__(
    self,
    settings: AlignmentSettings,
    policy: Policy,
    prompt_format: PromptFormat,
    mesh: Mesh,
    *,
    seed: int,
    stop: str = "",
  ):
    """Draws the requests and makes the engine.

    Args:
      settings: how much is asked.
      policy: model and tokeniser; its parameters do not matter.
      prompt_format: how a request is put to the model.
      mesh: where the parameters are.
      seed: of requests, draws and intervals.
      stop: ends an answer and is no part of it, besides the model's own end; empty for nothing.

    Raises:
      InputError: if the tokeniser does not know the world's words, or if a size means nothing.
    """
    self._settings, self._policy, self._mesh, self._seed = settings, policy, mesh, seed
    self._format, self._stop = prompt_format, stop
    world = make_world(settings.world)
    self._knowledge = WorldKnowledge(
      world, policy, self._ask, mesh, plain=settings.plain, in_prose=settings.prose, seed=seed
    )
    count = dict.fromkeys(RequestKind, settings.requests) | {RequestKind.SUM: settings.sums}
    draw = draw_prose_requests if settings.prose else draw_requests
    self._requests = {
      name: [request for kind in RequestKind for request in draw(world, kind, part, count[kind], seed=seed)]
      for name, part in PARTS.items()
    }
    self._prompts = self._ask([request for each in self._requests.values() for request in each])
    self._engine = Engine(
      policy.model,
      SamplingConfig(stop_ids=policy.tokenizer.stop_ids, stop_strings=(stop,) if stop else ()),
      Sizes(
        slots=settings.slots,
        max_prompt_length=max(len(prompt.tokens) for prompt in self._prompts),
        max_new_tokens=settings.max_new_tokens,
        share=settings.samples,
      ),
      seed=seed,
      mesh=mesh,
      decode=policy.tokenizer.decode,
    )

  def __call__(
    self, learner_params: nnx.State, sampler_params: nnx.State, reference: nnx.State | None = None
  ) -> AlignmentResult:
    """Measures parameters.

    Args:
      learner_params: layers stacked.
      sampler_params: the same for the engine (`parallel.reshard.make_handover`).
      reference: what the KL is measured to, layers stacked, such as the base model; None for no KL.
    """
    self._engine.load(sampler_params, 0)
    groups = self._engine.generate(self._prompts, self._settings.samples)
    self._engine.unload()
    judged = self._judge(groups)
    measures = {
      f"{part}/{name}": value
      for part, each in judged.items()
      for name, value in alignment_metrics.measure(each, seed=self._seed).items()
    }
    claims = Claims(np.zeros(0), np.zeros(0, bool), np.zeros(0, np.int64))
    if self._settings.knowledge:
      told, claims = self._knowledge(learner_params)
      measures |= told
    if reference is not None:
      measures["kl"] = self._kl(groups, reference)
    stated = alignment_metrics.stated_claims([each for part in judged.values() for each in part])
    return AlignmentResult(measures, judged, {"stated": stated, "probability": claims})

  def _ask(self, requests: Sequence[WorldRequest]) -> list[Prompt]:
    rows = [request.to_row() for request in requests]
    found, _ = prompt_rows.make_prompts(
      prompt_rows.named_rows(rows, "requests"),
      self._policy.tokenizer,
      max_length=_NO_LIMIT,
      prompt_format=self._format,
      answer_required=False,
    )
    return found

  def _judge(self, groups: Sequence[Group]) -> dict[str, list[Judged]]:
    found, start = {}, 0
    for part, requests in self._requests.items():
      found[part] = []
      for request, group in zip(requests, groups[start : start + len(requests)], strict=True):
        texts = tuple(self._text(each) for each in group.answers)
        verdicts = tuple(judge_thought(request, text) for text in texts)
        found[part].append(Judged(request, texts, verdicts, tuple(map(int, group.lengths))))
      start += len(requests)
    return found

  def _text(self, answer: Answer) -> str:
    text = answer_text(self._policy.tokenizer, answer.tokens, ended=answer.finish_reason == FinishReason.EOS)
    return text.partition(self._stop)[0].strip() if self._stop else text

  def _kl(self, groups: Sequence[Group], reference: nnx.State) -> Estimate:
    """Estimates KL(π ‖ π_ref) in nats an answer, from answers that π drew at temperature 1."""
    found = choice_logprobs(
      self._policy.model,
      reference,
      [group.prompt.tokens for group in groups],
      [[answer.tokens for answer in group.answers] for group in groups],
      self._mesh,
    )
    own = [[answer.sampler_logprobs.sum(dtype=np.float64) for answer in group.answers] for group in groups]
    return estimate((np.array(own) - found).mean(axis=1), seed=self._seed)
