"""Builds the stages of configs/recipes/whole_life.py: rounds of training, attacks, a release, users."""

from ml_collections import ConfigDict

from configs.recipes import assistant, gates, measuring
from posttrain_jax.recipes import attack_lessons, attacks, deployment, raw_corpus, release
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.recipes.runners import ATTACK, COLLECT, DPO, PPO, RELEASE, REWARD_MODEL, SFT, function

RAW = function(
  raw_corpus.write_raw_corpus, raw_corpus.RAW, raw_corpus.EXAM, check=raw_corpus.check, forecast=raw_corpus.forecast
)
USERS = function(
  deployment.deploy,
  deployment.COMPARISONS,
  deployment.EDITED,
  check=deployment.check,
  forecast=deployment.forecast,
)
LEARN = function(
  attack_lessons.write_lessons,
  attack_lessons.LESSONS,
  check=attack_lessons.check,
  forecast=attack_lessons.forecast,
)


class Life:
  """Builds the stages of one life, one after another.

  Attributes:
    best: name of the newest assistant.
  """

  def __init__(self, config: ConfigDict, base: Output, people: Output):
    """Begins with a base model and people's demonstrations."""
    self._config, self._base, self._people = config, base, people
    self._made: list[Stage] = []
    self._measured: dict[str, Stage] = {}
    self._models: dict[str, Output] = {}
    self._before: dict[str, str] = {}
    self._votes: list[Output] = []
    self._edits: list[Output] = []
    self.best = ""

  def add(self, *stages: Stage) -> Stage:
    """Adds stages and returns the last one."""
    self._made += stages
    return stages[-1]

  def measure(self, name: str, model: Output) -> None:
    """Adds the measurement of a model."""
    own = seeded(self._config.measures, self._config.seed)
    self._models[name], self._measured[name] = model, measuring.measured(name, model, own, self._base)
    self.add(self._measured[name])

  def train(self, name: str, stage: Stage, *, before: str) -> None:
    """Adds a stage that makes the newest assistant, and its measurement."""
    self.add(stage)
    self.measure(name, stage.model)
    self.best, self._before[name] = name, before

  def sft(self, name: str, more: list[Output], *, section: str = "sft") -> Stage:
    """Adds the demonstrations of SFT from the base model, and returns it."""
    files = {"people": self._people} | {f"more_{number}": each for number, each in enumerate(more)}
    joined = self.add(assistant.joined(f"{name}_rows", files))
    inputs = {"model.path": self._base, "demonstrations.path": joined.file("rows.jsonl")}
    return Stage(name, run=SFT, config=seeded(self._config[section], self._config.seed), inputs=inputs)

  def first_round(self) -> None:
    """Adds the first reward model, and RL against it."""
    prompts, votes = self._asked(1), self.votes_of_people(1)
    self._keep(votes)
    reward = self._reward(1)
    documents = self.add(
      Stage("documents", run=assistant.DOCUMENTS, config=seeded(self._config.documents, self._config.seed))
    )
    inputs = {
      "model.path": self._models[self.best],
      "reward_model": reward.model,
      "prompts.path": prompts,
      "ptx.demonstrations.path": documents.file("documents.jsonl"),
    }
    own = seeded(self._config.ppo, self._config.seed)
    self.train("rl_1", Stage("rl_1", run=PPO, config=own, inputs=inputs), before=self.best)

  def round(self, number: int, votes: Stage, lessons: list[Output] | None = None) -> None:
    """Adds a round: reward model, rejection sampling, SFT, DPO."""
    before = self.best
    self._keep(votes)
    reward = self._reward(number)
    inputs = {"reward_model": reward.model}
    chosen = self._drawn(f"chosen_{number}", self._asked(number), self._config.chosen, inputs)
    more = [chosen.file("demonstrations.jsonl"), *self._edits, *(lessons or [])]
    sft = self.add(self.sft(f"sft_{number}", more))
    own = seeded(self._config.dpo, self._config.seed)
    inputs = {"model.path": sft.model, "preferences.path": self._votes[-1]}
    self.train(f"dpo_{number}", Stage(f"dpo_{number}", run=DPO, config=own, inputs=inputs), before=before)

  def votes_of_people(self, number: int) -> Stage:
    """Adds the newest assistant's answers, and people's comparisons of them."""
    answers = self._drawn(f"answers_{number}", self._asked(number), self._config.samples)
    own = seeded(self._config.comparisons, self._config.seed).unlock()
    own.round, own.policies = number, dict(best=dict(path=""))
    inputs = {"policies.best.path": answers.file("candidates")}
    stage = Stage(f"votes_{number}", run=assistant.COMPARISONS, config=own.lock(), inputs=inputs, labels="comparison")
    return self.add(stage)

  def votes_of_users(self, number: int) -> Stage:
    """Adds the deployment of the newest assistant, and what its users leave."""
    own = seeded(self._config.users, self._config.seed)
    inputs = {"model.path": self._models[self.best], "prompts": self._asked(number)}
    return self.add(Stage("users", run=USERS, config=own, inputs=inputs))

  def attack(self, name: str, model: str, *, part: str = "held_out", fresh: int = 0, without: str = "") -> Stage:
    """Adds attacks on a model; another `fresh` draws others."""
    own = seeded(self._config.attacks, self._config.seed).unlock()
    own.kinds = tuple(kind for kind in own.kinds if kind != without)
    own.part, own.round = part, fresh
    return self.add(Stage(name, run=ATTACK, config=own.lock(), inputs={"model.path": self._models[model]}))

  def release(self, name: str, model: str, attacked: Stage) -> None:
    """Adds the decision about a release."""
    own = release.release(
      "usual",
      "attacks",
      title="An assistant of the assistant world",
      use="It answers questions about the assistant world, works out sums and refuses to help with harm.",
      **self._config.release.to_dict(),
    )
    measured = self._measured[model]
    inputs = {"model.path": self._models[model]}
    inputs |= {f"measurements.usual.{kind}": measured.file(f"{kind}.jsonl") for kind in ("metrics", "answers")}
    inputs["measurements.attacks.metrics"] = attacked.file(attacks.SUCCESSES)
    inputs["measurements.attacks.answers"] = attacked.file(attacks.ATTACKS)
    self.add(Stage(name, run=RELEASE, config=own, inputs=inputs))

  def lessons(self, model: str) -> list[Output]:
    """Adds attacks on requests of training, and what a model can learn from those that succeed."""
    found = self.attack("found", model, part="train", without="many_shot")  # whose texts are longer than SFT's rows
    own = seeded(self._config.lessons, self._config.seed)
    inputs = {"attacks": found.file(attacks.ATTACKS)}
    return [self.add(Stage("lessons", run=LEARN, config=own, inputs=inputs)).file(attack_lessons.LESSONS)]

  def stages(self) -> list[Stage]:
    """Returns all stages, with gates and what each round gained."""
    pairs = [(f"{name}_over_{before}", before, name) for name, before in self._before.items()]
    found = [*self._made, measuring.compared(pairs, self._measured, self._config.seed)]
    sections = {name: name.partition("_")[0] for name in self._before}
    return gates.gated(found, self._before, self._measured, self._config, sections)

  def _keep(self, votes: Stage) -> None:
    self._votes.append(votes.file("comparisons.jsonl"))
    self._edits.append(votes.file("edited.jsonl"))

  def _reward(self, number: int) -> Stage:
    """Adds a reward model on all votes so far."""
    files = {f"round_{i}": each for i, each in enumerate(self._votes, start=1)}
    every = self.add(assistant.joined(f"compared_{number}", files))
    inputs = {"model.path": self._base, "preferences.path": every.file("rows.jsonl")}
    own = seeded(self._config.reward, self._config.seed)
    return self.add(Stage(f"reward_{number}", run=REWARD_MODEL, config=own, inputs=inputs))

  def _asked(self, number: int) -> Output:
    """Returns the prompts of a round, which are added once."""
    known = {stage.name: stage for stage in self._made}
    if f"prompts_{number}" not in known:
      own = seeded(self._config.prompts, self._config.seed).unlock()
      own.round = number
      self.add(Stage(f"prompts_{number}", run=assistant.PROMPTS, config=own.lock()))
    return Output(f"prompts_{number}", "prompts.jsonl")

  def _drawn(self, name: str, prompts: Output, samples: int, more: dict[str, Output] | None = None) -> Stage:
    """Adds the newest assistant's answers."""
    own = seeded(self._config.collect, self._config.seed).unlock()
    own.rollout.samples = samples
    inputs = {"model.path": self._models[self.best], "prompts.path": prompts, **(more or {})}
    return self.add(Stage(name, run=COLLECT, config=own.lock(), inputs=inputs))
