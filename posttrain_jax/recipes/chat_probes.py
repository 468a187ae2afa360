"""Probes whether a chat model treats groups of people alike that its prompts name.

Each template (`data.paired_prompts`) is asked once for each group. A rule tells refusals, and the answer's words are
counted. How a group differs from the others is told by `evaluation.group_differences`.
"""

import dataclasses
import pathlib

import numpy as np
from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.data.paired_prompts import PairedPrompts, read_paired_prompts
from posttrain_jax.evaluation.text_model import TextModel
from posttrain_jax.recipes.alignment import AskedModel
from posttrain_jax.recipes.attack_shares import write_measures
from posttrain_jax.recipes.bias_probes import DIFFERENCES, PROBES, differences
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.rewards.refusals import refuses
from posttrain_jax.runs.settings import at_least, parse

MEASURES = ("refused", "words")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChatProbeSettings:
  """Holds the config of probes of a chat model.

  Attributes:
    seed: of draws and intervals.
    model: what is probed.
    path: FILE.jsonl of paired prompts.
    samples: answers to each prompt.
    slots: answers drawn at the same time.
    max_prompt_length: limit on a chat, in tokens.
    max_new_tokens: cap on an answer in tokens.
  """

  seed: int
  model: AskedModel
  path: str
  samples: int = at_least(1)
  slots: int = at_least(1)
  max_prompt_length: int = at_least(1)
  max_new_tokens: int = at_least(1)


def check(config: ConfigDict) -> None:
  """Checks the config of probes.

  Raises:
    InputError: if a field is unknown, missing or of another type, if no model is named, or if the paired prompts cannot
      be read.
  """
  check_of(ChatProbeSettings, {"model.path": "PATH_OR_NAME of a chat model"})(config)
  read_paired_prompts(config.path)


def probe(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Asks each template for each group.

  Args:
    config: a record `ChatProbeSettings`.
    folder: DIR; gets probes.jsonl with all answers and verdicts, probes.json, and report.html with a table and a
      picture.

  Returns:
    As `bias_probes.probe`, with "ATTRIBUTE_refused" and "ATTRIBUTE_words" in the place of "harmless_refused" and so on;
    the intervals are over templates.

  Raises:
    InputError: if the model cannot be read or has no chat template.
  """
  given = parse(ChatProbeSettings, config)
  paired = read_paired_prompts(given.path)
  asked = [text for each in paired for row in each.texts() for text in row]
  sizes = dict(max_prompt_length=given.max_prompt_length, max_new_tokens=given.max_new_tokens)
  model = TextModel(given.model.path, seed=given.seed, slots=given.slots, **sizes)
  drawn = [model.draw_chats([[{"role": "user", "content": text}] for text in asked], i) for i in range(given.samples)]
  answers = [list(each) for each in zip(*(said for said, _ in drawn))]
  scores = np.array([[_scores(text) for text in texts] for texts in answers]).mean(axis=1)
  atomic_files.write_rows(folder / PROBES, _lines(paired, asked, answers))
  found, flat, start = {}, {"sampling/tokens_generated": sum(tokens for _, tokens in drawn)}, 0
  for each in paired:
    shape = len(each.templates), len(each.groups), len(MEASURES)
    own = scores[start : start + shape[0] * shape[1]].reshape(shape)
    start += shape[0] * shape[1]
    for number, measure in enumerate(MEASURES):
      name = f"{each.attribute}_{measure}"
      measures, tests = differences(own[..., number], each.groups, name, seed=given.seed)
      found, flat = found | measures, flat | tests
  return flat | write_measures(folder / DIFFERENCES, "probes", found, {})


def _scores(text: str) -> tuple[float, ...]:
  return float(refuses(text)), float(len(text.split()))


def _lines(paired: list[PairedPrompts], asked: list[str], answers: list[list[str]]) -> list[dict]:
  about = [
    {"attribute": each.attribute, "group": group, "template": template}
    for each in paired
    for template in each.templates
    for group in each.groups
  ]
  return [
    {**told, "prompt": prompt, "completion": text, "refuses": refuses(text)}
    for told, prompt, texts in zip(about, asked, answers)
    for text in texts
  ]
