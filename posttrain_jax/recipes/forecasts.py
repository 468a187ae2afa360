"""Estimates the work of each pipeline from its config.

Answers, and rows of files that do not exist yet, have an expected length of `costs.fill` times their limit. Evaluations
within training are not counted. FLOPs are those of `models.flops`: an update costs three forward passes, drawing an
answer and scoring it one each. Models and files that exist are read here, so a wrong one is refused before anything
runs.
"""

import dataclasses
import math

from ml_collections import ConfigDict

from posttrain_jax.assembly.comparisons import answers_of_a_prompt
from posttrain_jax.assembly.demonstrations import DemonstrationSettings, encode, read_demonstrations
from posttrain_jax.assembly.model import Vocabulary
from posttrain_jax.data import arithmetic
from posttrain_jax.data.documents import read_shards
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.models import flops
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.performance.counts import group_pass
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Expected, Forecast
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

_SAMPLE = 200  # rows whose length is measured


def supervised(config: ConfigDict, forecast: Forecast) -> Effort:
  """Estimates supervised fine-tuning."""
  model, tokenizer = forecast.policy(config.model)
  section = config.demonstrations
  examples, length, learned = _demonstrations(section, tokenizer, forecast)
  per_row = max(1.0, section.row_length / length) if section.packed else 1.0
  steps = _steps(config, examples / per_row)
  trained = steps * config.batch_size * per_row  # examples
  tokens, answered = round(trained * length), round(trained * learned)
  forward = flops.forward(model, tokens=tokens, pairs=round(tokens * length / 2), logits=answered)
  return Effort(examples=examples, trained=answered, training_flops=3 * forward)


def pretraining(config: ConfigDict, forecast: Forecast) -> Effort:
  """Estimates pretraining on packed rows of prepared shards, and its second phase."""
  documents = read_shards(config.corpus.path)[1]["documents"]
  return dataclasses.replace(rows_of_text(config, forecast, _pretraining_steps(config)), examples=documents)


def rows_of_text(config: ConfigDict, forecast: Forecast, steps: int) -> Effort:
  """Estimates both phases of pretraining, the first of which has so many steps.

  Documents are taken to be at least as long as a row, which counts too much of attention if they are shorter.
  """
  model, _ = forecast.policy(config.model)
  found = Effort()
  for count, rows, length in (
    (steps, config.batch_size, config.corpus.row_length),
    (config.extension.steps, config.extension.batch_size, config.extension.row_length),
  ):
    tokens = count * rows * length
    forward = flops.forward(model, tokens=tokens, pairs=count * rows * flops.causal(length), logits=tokens)
    found = dataclasses.replace(
      found, trained=found.trained + tokens, training_flops=found.training_flops + 3 * forward
    )
  return found


def judgements(config: ConfigDict, forecast: Forecast) -> Effort:
  """Estimates the training of a generative reward model, whose rows are judgements of answers."""
  model, _ = forecast.policy(config.model)
  section = config.demonstrations
  examples = forecast.count(section.path) if section.path else _problems(section) * section.copies
  length = forecast.length(section.row_length)
  per_row = section.row_length / length if section.packed else 1.0
  tokens = round(_steps(config, examples / per_row) * config.batch_size * per_row * length)
  forward = flops.forward(model, tokens=tokens, pairs=round(tokens * length / 2), logits=tokens)
  return Effort(examples=examples, trained=tokens, training_flops=3 * forward)


def reward_model(config: ConfigDict, forecast: Forecast) -> Effort:
  """Estimates the training of a reward model."""
  model, _ = forecast.model(config.model)
  examples = _comparisons(config.preferences, forecast)
  trained = _steps(config, examples) * config.batch_size
  return Effort(examples=examples, training_flops=3 * _compared(model, config.preferences, trained, forecast))


def preference_optimization(config: ConfigDict, forecast: Forecast) -> Effort:
  """Estimates DPO on given pairs, or online."""
  model, _ = forecast.policy(config.model)
  if "online" in config:
    return _rollouts(config, model, forecast, passes=3 + 1, scored=bool(config.online.reward_model))
  section = config.preferences
  examples = _comparisons(section, forecast)
  steps = _steps(config, examples)
  forward = _compared(model, section, steps * config.batch_size, forecast)
  reference = _compared(model, section, examples, forecast)
  return Effort(examples=examples, training_flops=3 * forward + reference)


def policy_gradient(config: ConfigDict, forecast: Forecast) -> Effort:
  """Estimates GRPO and its kin, or PPO."""
  model, _ = forecast.policy(config.model)
  scored = bool(config.reward_model)
  if "value" not in config:
    passes = 3 + 1 + bool(config.objective.kl_coefficient or config.reference.kl_in_reward)
    found, answers = _rollouts(config, model, forecast, passes=passes, scored=scored), _drawn_answers(config)
    return _attacked(_judged(found, config, model, answers, forecast), config, forecast)
  # PPO updates policy and value model in each epoch, and needs logprobs of policy and reference, and values, before.
  found = _rollouts(config, model, forecast, passes=2 * 3 * config.learner.epochs + 3, scored=scored)
  tokens, forward = _pretraining_text(config, model, forecast)
  return dataclasses.replace(found, trained=found.trained + tokens, training_flops=found.training_flops + 3 * forward)


def collection(config: ConfigDict, forecast: Forecast) -> Effort:
  """Estimates rejection sampling, distillation or a collection of edited answers."""
  if "edited" in config:
    section = config.edited
    count = forecast.count(section.path) if section.path else _problems(section)
    return Effort(examples=count, rows={"demonstrations.jsonl": count, "pairs.jsonl": 3 * count})
  model, _ = forecast.policy(config.model)
  prompts, rollout = _prompts(config.prompts, forecast), config.rollout
  drawn, forward = _answers(model, rollout, prompts, rollout.samples, forecast)
  kept = 2 * prompts if "distillation" in config else prompts * config.selection.keep
  found = Effort(
    examples=prompts,
    generated=drawn,
    sampling_flops=forward * (2 if config.reward_model else 1),
    rows={"demonstrations.jsonl": kept, "pairs.jsonl": prompts},
  )
  return _judged(found, config, model, prompts * rollout.samples, forecast)


def evaluation(config: ConfigDict, forecast: Forecast) -> Effort:
  """Estimates an evaluation on the sets of its `eval` section."""
  model, _ = forecast.policy(config.model)
  found = Effort()
  for each in config.eval.sets.values():
    prompts = _prompts(each.prompts, forecast)
    drawn, forward = _answers(model, config.eval, prompts, each.samples + bool(each.greedy), forecast)
    found = Effort(
      examples=found.examples + prompts,
      generated=found.generated + drawn,
      sampling_flops=found.sampling_flops + forward,
    )
  return found


def nothing(config: ConfigDict, forecast: Forecast) -> Effort:
  """Estimates a stage that neither draws nor trains."""
  del config, forecast
  return Effort()


def model_of(config: ConfigDict, forecast: Forecast) -> Expected:
  """Returns what is known of a stage's model, which is like the one before it."""
  return forecast.model(config.model if "model" in config else next(iter(config.models.values())))


def _pretraining_steps(config: ConfigDict) -> int:
  """Returns the steps of the first phase.

  Epochs are estimated by a token for each byte, or for four bytes if the model does not read bytes.
  """
  if not config.epochs:
    return config.steps
  text = read_shards(config.corpus.path)[1]["bytes"] * (1 - config.corpus.held_out)
  tokens = text if not config.model.path and config.model.vocabulary == Vocabulary.BYTES else text / 4
  return math.ceil(_steps(config, tokens / config.corpus.row_length))


def _rollouts(config: ConfigDict, model: TransformerConfig, forecast: Forecast, *, passes: int, scored: bool) -> Effort:
  """Estimates steps of rollouts and updates; `passes` are forward passes over what is trained on."""
  rollout = config.rollout
  drawn, forward = _answers(model, rollout, config.steps * rollout.groups, rollout.group_size, forecast)
  return Effort(
    examples=config.steps * rollout.groups,
    generated=drawn,
    trained=drawn,
    sampling_flops=forward * (1 + scored),
    training_flops=forward * passes,
  )


def _judged(found: Effort, config: ConfigDict, model: TransformerConfig, answers: int, forecast: Forecast) -> Effort:
  """Adds the judgements of a generative reward model, which is taken to have the policy's size."""
  if config.get("judge", None) is None:
    return found
  drawn, forward = _answers(model, config.judge, answers, config.judge.votes, forecast)
  return dataclasses.replace(
    found, generated=found.generated + drawn, sampling_flops=found.sampling_flops + 2 * forward
  )


def _attacked(found: Effort, config: ConfigDict, forecast: Forecast) -> Effort:
  """Adds the answers of a model that is attacked."""
  if config.get("target", None) is None:
    return found
  model, _ = forecast.policy(config.target)
  questions = min(_drawn_answers(config), config.target.budget)
  drawn, forward = _answers(model, config.target, questions, 1, forecast)
  if config.target.get("judge", None) is not None:
    forward += _asked_twice(config.target, questions, forecast)
  return dataclasses.replace(found, generated=found.generated + drawn, sampling_flops=found.sampling_flops + forward)


def _asked_twice(target: ConfigDict, questions: int, forecast: Forecast) -> float:
  """Returns the FLOPs of a judge, asked in both orders, in about the target's tokens."""
  judge, _ = forecast.policy(target.judge)
  said = sum(forecast.length(target[name]) for name in ("max_prompt_length", "max_new_tokens"))
  length = said + sum(len(target.judge.question[name].split()) for name in ("text", "complies", "refuses"))
  count = 2 * questions
  return flops.forward(judge, tokens=count * length, pairs=count * flops.causal(length), logits=count)


def _drawn_answers(config: ConfigDict) -> int:
  return config.steps * config.rollout.groups * config.rollout.group_size


def _pretraining_text(config: ConfigDict, model: TransformerConfig, forecast: Forecast) -> tuple[int, float]:
  """Returns PPO-ptx's tokens and the FLOPs of a forward pass.

  All of them are learned.
  """
  section = config.ptx
  if not section.coefficient:
    return 0, 0.0
  limit = section.demonstrations.row_length
  length = limit if section.demonstrations.packed else forecast.length(limit)
  updates = max(0, config.steps - config.value.pretraining_steps) * config.learner.epochs * config.learner.minibatches
  tokens = updates * section.rows * length
  return tokens, flops.forward(model, tokens=tokens, pairs=tokens * length // 2, logits=tokens)


def _answers(
  model: TransformerConfig, section: ConfigDict, prompts: int, samples: int, forecast: Forecast
) -> tuple[int, float]:
  """Returns (tokens that are drawn, FLOPs of a forward pass over prompts and answers)."""
  asked, answer = (forecast.length(section[name]) for name in ("max_prompt_length", "max_new_tokens"))
  forward = group_pass(model, prompts=prompts, prompt_length=asked, answers=samples, answer_length=answer).flops
  return prompts * samples * answer, forward


def _compared(model: TransformerConfig, section: ConfigDict, prompts: int, forecast: Forecast) -> float:
  """Returns the FLOPs of a forward pass over the compared answers of prompts."""
  answers = answers_of_a_prompt(section.form, section.answers)
  asked, answer = (forecast.length(section[name]) for name in ("max_prompt_length", "max_answer_length"))
  return group_pass(model, prompts=prompts, prompt_length=asked, answers=answers, answer_length=answer).flops


def _steps(config: ConfigDict, rows: float) -> int:
  return config.steps or math.ceil(config.epochs * rows / config.batch_size)


def _demonstrations(section: ConfigDict, tokenizer: Tokenizer | None, forecast: Forecast) -> tuple[int, float, float]:
  """Returns (examples, tokens of an example, learned tokens of an example)."""
  settings = parse(DemonstrationSettings, section, "demonstrations")
  documents = settings.corpus.documents if settings.corpus and not section.path else 0
  if documents:  # some documents say how long all are
    settings = dataclasses.replace(settings, corpus=dataclasses.replace(settings.corpus, documents=_SAMPLE))
  rows = forecast.read(section.path) if section.path else read_demonstrations(settings)[0]
  count = documents or (forecast.count(section.path) if rows is None else len(rows))
  count = min(count, section.limit) if section.limit else count
  if rows and tokenizer is not None:
    rows = rows[:count]
    try:
      examples = encode(settings, rows[:_SAMPLE], tokenizer).examples
    except InputError:  # either all of the sample's answers are empty, or a row is wrong
      examples = encode(settings, rows, tokenizer).examples
    if examples:
      length = sum(len(each.tokens) for each in examples) / len(examples)
      return count, length, sum(sum(each.mask) for each in examples) / len(examples)
  learned = forecast.length(section.max_completion or section.row_length)
  return count, min(section.row_length, 1.5 * learned), learned


def _comparisons(section: ConfigDict, forecast: Forecast) -> int:
  count = forecast.count(section.path) if section.path else _problems(section)
  count = min(count, section.limit) if section.limit else count
  return max(1, round(count * (1 - section.held_out)))


def _prompts(section: ConfigDict, forecast: Forecast) -> int:
  if section.path:
    count = forecast.count(section.path)
  elif section.task == "facts":
    count = len(arithmetic.facts(section.split))
  else:
    count = _problems(section, section.split)
  return min(count, section.limit) if section.limit else count


def _problems(section: ConfigDict, split: str = "train") -> int:
  difficulties = section.get("difficulties", None) or arithmetic.DIFFICULTIES
  found = arithmetic.problems(
    arithmetic.Split(split), per_difficulty=section.per_difficulty, seed=section.seed, difficulties=difficulties
  )
  return len(found)
