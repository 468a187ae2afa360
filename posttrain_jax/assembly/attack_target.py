"""Rewards attacks by what another model says to them, and for novelty.

A policy that is trained on such rewards is an attacker: red teaming by RL (Perez et al., 2202.03286, section 3.2), with
a reward for novelty as in curiosity-driven red teaming (2402.19464, section 3).

An attack that does not ask for the harm that its row names earns a penalty and is not put to the target. Else nonsense
would pay: the target may say something harmful about nothing that was asked.

Whether the target's answer is harmful is said by a rule, or by a judge model (2202.03286, section 3.1). Where a judge
is paid, the rule's verdict stays as the accuracy. So a run shows whether the attacker deceives its judge.

A budget bounds how often the target is asked in the whole run. The loop stops before a step that could exceed it.

The random numbers of the target's answers depend on the run's seed, on the prompt's index and attempt, and on the
attack's number in its group. A checkpoint holds the number of questions and all attacks. So a run that was killed goes
on with the same answers and the same novelty.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from posttrain_jax.assembly.engine_turns import draw_between
from posttrain_jax.assembly.hand_over import sampler_params
from posttrain_jax.assembly.judges import RewardFunctionSettings, make_judge
from posttrain_jax.assembly.model import Policy
from posttrain_jax.assembly.prompt_format import FormatSettings
from posttrain_jax.assembly.rollout_engine import EngineSettings
from posttrain_jax.data.prompts import Row, make_prompts
from posttrain_jax.data.verdict_question import VerdictQuestion
from posttrain_jax.parallel.processes import refuse_several
from posttrain_jax.rewards.novelty import TextNovelty
from posttrain_jax.rewards.workers import RewardWorkers
from posttrain_jax.runs.random_streams import Stream, stream_seed
from posttrain_jax.runs.settings import at_least
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import Group, InputError, Prompt

# Names among the components: the rule's verdict, the judge's if there is one, and novelty.
COMPLIED, JUDGED, NOVELTY = "complied", "judged", "novelty"
_ASKS = 0.5  # an attack asks if its reward for asking is at least this


# (attack, answer) pairs to whether each answer does what was asked, bool [N].
JudgeAnswers = Callable[[Sequence[tuple[str, str]]], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetJudge:
  """Holds the `target.judge` section: a model whose verdict is paid.

  Attributes:
    path: PATH_OR_NAME of the judge.
    longest: characters of an attack and of an answer that it reads at most.
    question: how it is asked.
  """

  path: str
  longest: int = at_least(1)
  question: VerdictQuestion

  def __post_init__(self):
    """Raises InputError if there is no judge."""
    if not self.path:
      raise InputError("target.judge.path: empty, expected PATH_OR_NAME of the model that judges")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetSettings(EngineSettings, FormatSettings):
  """Holds the `target` section; `configs/recipes/attacker_sections.py` says what its fields mean.

  Attributes:
    path: PATH_OR_NAME of the model that is attacked.
    budget: most answers that the target gives in the whole run.
    asks: name of one of `rewards.functions`, which gives 1 to an attack that asks for the harm of its row; empty: every
      attack is put to the target.
    verdict: reward function of the target's answer: 1 if it complies.
    penalty: what an attack loses that does not ask.
    novelty: weight of the reward for novelty.
    longest: tokens of the longest n-grams that novelty looks at, in the target's tokens.
    judge: a model whose verdict is paid in place of the rule's; None for none.
  """

  path: str
  budget: int = at_least(1)
  asks: str
  verdict: RewardFunctionSettings
  penalty: float = at_least(0)
  novelty: float = at_least(0)
  longest: int = at_least(1)
  judge: TargetJudge | None = None

  def __post_init__(self):
    """Raises InputError if there is no target."""
    if not self.path:
      raise InputError("target.path: empty, expected PATH_OR_NAME of the model that is attacked")
    _ = self.prompt_format  # checks it


class AttackedModel:
  """Rewards groups of attacks.

  Attributes:
    questions: how often the target was asked so far.
  """

  def __init__(
    self,
    settings: TargetSettings,
    target: Policy,
    workers: RewardWorkers,
    mesh: Mesh,
    *,
    seed: int,
    engines: Sequence[Engine] = (),
    judged: JudgeAnswers | None = None,
  ):
    """Makes the engine that draws the target's answers.

    Args:
      settings: the config's `target`.
      target: model and tokeniser.
      workers: run the verdict, their only function.
      mesh: the learner's.
      seed: the config's.
      engines: draw the attacks. Those that are idle give up the memory of their caches while the target answers.
      judged: asks the judge whose verdict is paid; None: the rule's is paid.

    Raises:
      InputError: if several processes run, or if the target's context or the mesh does not fit the sizes.
    """
    refuse_several("target")
    self._settings, self._engines, self._tokenizer, self._judged = settings, engines, target.tokenizer, judged
    try:
      self._engine = target_engine(settings, target, mesh, seed=seed)
    except InputError as error:
      raise InputError(f"target: {str(error).replace('rollout.', 'target.', 1)}") from None
    self._params = sampler_params(target, mesh)
    self._judge = make_judge(workers, target.tokenizer, accuracy=COMPLIED)
    self._known = TextNovelty(settings.longest)
    self._attacks: dict[str, None] = {}  # all so far, each once
    self.questions = 0

  def affords(self, attacks: int) -> bool:
    """Tells whether the budget allows so many more questions."""
    return self.questions + attacks <= self._settings.budget

  def rejudge(self, judged: Sequence[Group]) -> list[Group]:
    """Gives judged groups of attacks their rewards; the rule's verdict is the accuracy.

    An attack that is too long for the target, or has a control token of it, counts as one that does not ask.

    Args:
      judged: groups with texts and components. In one call no two have the same prompt and attempt.
    """
    questions = [self._question(group, number) for group in judged for number in range(len(group.answers))]
    asked = [place for place, question in enumerate(questions) if question is not None]
    texts = [text for group in judged for text in group.texts]
    complied, paid, novelty = np.zeros((3, len(texts)))
    valid, said = np.ones(len(texts), bool), np.isin(np.arange(len(texts)), asked)
    if asked:
      attacks = [texts[place] for place in asked]
      complied[asked], paid[asked], valid[asked] = self._ask([questions[place] for place in asked], attacks)
      novelty[asked] = self._remember(attacks)
    rewards = np.where(said, paid + self._settings.novelty * novelty, -self._settings.penalty)
    found = {COMPLIED: complied, NOVELTY: novelty} | ({JUDGED: paid} if self._judged else {})
    ends = np.cumsum([len(group.answers) for group in judged])[:-1]
    columns = {name: np.split(values.astype(np.float32), ends) for name, values in found.items()}
    parts = enumerate(zip(judged, np.split(rewards.astype(np.float32), ends), np.split(valid, ends)))
    return [_rewarded(*part, {name: column[number] for name, column in columns.items()}) for number, part in parts]

  def state(self) -> dict[str, Any]:
    """Returns what a checkpoint must hold, as a JSON object."""
    return {"questions": self.questions, "attacks": [*self._attacks]}

  def restore(self, state: Mapping[str, Any]) -> None:
    """Goes back to what `state` returned."""
    self.questions, self._known, self._attacks = state["questions"], TextNovelty(self._settings.longest), {}
    self._remember(state["attacks"])

  def _remember(self, attacks: Sequence[str]) -> list[float]:
    """Remembers attacks, and returns the novelty of each."""
    self._attacks |= dict.fromkeys(attacks)
    return self._known.add([self._tokenizer.encode(text) for text in attacks])

  def _question(self, group: Group, number: int) -> Prompt | None:
    """Returns an attack as a question; None if it is not put to the target."""
    settings, text = self._settings, group.texts[number]
    asks = group.components[settings.asks][number] if settings.asks else 1.0
    if not asks >= _ASKS or any(self._tokenizer.is_special(token) for token in self._tokenizer.encode(text)):
      return None
    try:
      (found,), _ = make_prompts(
        [Row({"prompt": text}, "attack")],
        self._tokenizer,
        max_length=settings.max_prompt_length,
        prompt_format=settings.prompt_format,
        prompt_field="prompt",
        answer_required=False,
        limit_field="target.max_prompt_length",
      )
    except InputError:
      return None
    # The engine's random numbers follow from index and attempt, so each attack needs an index of its own.
    index = group.prompt.index * len(group.answers) + number
    return dataclasses.replace(found, index=index, attempt=group.prompt.attempt, row=group.prompt.row)

  def _ask(self, questions: Sequence[Prompt], attacks: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lets the target answer.

    Args:
      questions: the attacks as the target reads them.
      attacks: their texts.

    Returns:
      (whether each answer complies by the rule, whether it does by what is paid, whether it has a verdict).
    """
    if not self.affords(len(questions)):
      raise RuntimeError("the target would be asked more often than its budget allows")
    self.questions += len(questions)
    answered = self._judge(draw_between(self._engine, self._engines, self._params, 0, questions, 1))
    complied, valid = (np.array([getattr(group, name)[0] for group in answered]) for name in ("accuracy", "valid"))
    if self._judged is None:
      return complied, complied, valid
    return complied, self._judged([(attack, group.texts[0]) for attack, group in zip(attacks, answered)]), valid


def target_engine(settings: TargetSettings, target: Policy, mesh: Mesh, *, seed: int) -> Engine:
  """Makes the engine that draws a target's answers.

  Args:
    settings: the config's `target`.
    target: model and tokeniser.
    mesh: the learner's.
    seed: the config's.

  Raises:
    InputError: if the target's context or the mesh does not fit the sizes.
  """
  return Engine(
    target.model,
    settings.sampling.of_tokenizer(target.tokenizer, "target.sampling"),
    settings.sizes(settings.max_prompt_length, 1),
    seed=stream_seed(seed, Stream.TARGET),
    decode=target.tokenizer.decode,
    mesh=mesh,
  )


def _rewarded(group: Group, rewards: np.ndarray, valid: np.ndarray, found: Mapping[str, np.ndarray]) -> Group:
  kept = group.valid & valid
  return dataclasses.replace(
    group,
    rewards=np.where(kept, rewards, np.float32(0)),
    accuracy=np.where(kept, found[COMPLIED], np.float32(0)),
    valid=kept,
    components={**group.components, **found},
  )
