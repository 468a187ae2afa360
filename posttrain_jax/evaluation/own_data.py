"""Decides what a run on data of one's own is evaluated on.

Only sets for which the config names no file are decided here. Such a set is the procedural task, which says nothing
about data of one's own. So where a run's data come from a file, it is a part of the run's own prompts, which are then
not trained on. Data without reference answers (demonstrations, comparisons) have no such part: the set is left out, and
the held-out loss or the held-out comparisons are measured. `eval.own_share` of 0 keeps the procedural task.
"""

import dataclasses
from collections.abc import Mapping

from posttrain_jax.assembly.prompts import Part, PromptSettings, count_parts, load_prompts
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.evaluation.evaluator import EvaluationSettings, SetSettings
from posttrain_jax.types import Prompt

_LIMIT = "rollout.max_prompt_length"
Sets = Mapping[str, SetSettings]


def follows_data(settings: EvaluationSettings) -> list[str]:
  """Lists the evaluation sets that follow the run's data.

  They have no file of their own. None do if `own_share` is 0.
  """
  return [name for name, each in settings.sets.items() if not each.prompts.path] if settings.own_share else []


def without_procedural(settings: EvaluationSettings, path: str, *, otherwise: str) -> tuple[EvaluationSettings, str]:
  """Leaves the procedural sets out, for data from a file that has no reference answers.

  Args:
    settings: the config's `eval`.
    path: the file; empty for procedural data, with which nothing changes.
    otherwise: the metric that is the best one if `eval.best` means a set that is not evaluated.

  Returns:
    (the settings, what to tell the user; empty if nothing changed).
  """
  left_out = follows_data(settings) if path else []
  sets = {name: each for name, each in settings.sets.items() if name not in left_out}
  told = []
  if left_out:
    told.append(f"eval.sets.{', '.join(left_out)}: left out, since {path} has no problems with answers to sample for")
  named = settings.best.removeprefix("-").partition("/")[0]
  best = settings.best
  if named in left_out or (not settings.sets and otherwise and named != otherwise.removeprefix("-").partition("/")[0]):
    best = otherwise
    told.append(f"eval.best is {otherwise or 'nothing'} in place of {settings.best}")
  return dataclasses.replace(settings, sets=sets, best=best), "; ".join(told)


class OwnPrompts:
  """Splits a file's prompts into those to train on and to evaluate on.

  Attributes:
    told: what to tell the user; empty if nothing is split.
    digests: what a run has to agree about when it goes on, besides the file.
  """

  def __init__(self, section: PromptSettings, settings: EvaluationSettings | None, *, max_prompt_length: int):
    """Reads the file, where there is one, and counts both parts.

    Args:
      section: the config's `prompts`.
      settings: the config's `eval`; None for a program that does not evaluate, which keeps all prompts.
      max_prompt_length: limit of the run's prompts in tokens.

    Raises:
      InputError: if the file cannot be read.
    """
    self._section, self._settings, self._length = section, settings, max_prompt_length
    self._names = follows_data(settings) if settings is not None and section.path else []
    self.told, self.digests, self._train = "", {}, None
    if not self._names:
      return
    share = settings.own_share
    kept, left = count_parts(section.path, share)
    names = ", ".join(f"eval.sets.{name}" for name in self._names)
    if not kept or not left:
      self.told = (
        f"{names}: left out; of {kept + left} prompts of {section.path} a hash leaves {kept} to train on and {left} "
        f"to evaluate on (eval.own_share={share}), so that all are trained on"
      )
      return
    self._train = Part(share, held_out=False)
    self.digests = {"prompts.held_out": f"{share}"}
    self.told = (
      f"{names}: held-out prompts of {section.path}: a hash of the prompt holds {left} of {kept + left} out "
      f"(eval.own_share={share})"
      + (f", of which the first {settings.own_limit} are evaluated" if 0 < settings.own_limit < left else "")
    )

  def training(self, tokenizer: Tokenizer, *, where: str) -> tuple[list[Prompt], dict[str, str]]:
    """Reads what is trained on; returns as `load_prompts`."""
    found, digests = load_prompts(
      self._section, tokenizer, max_prompt_length=self._length, where=where, limit_field=_LIMIT, part=self._train
    )
    return found, digests | self.digests

  def sets(self) -> tuple[Sets, Mapping[str, tuple[Part, int]]]:
    """Returns the sets to evaluate, and which are the run's own prompts.

    For the latter it says which part of the file they are, and the limit in tokens.
    """
    sets, parts = dict(self._settings.sets), {}
    for name in self._names:
      if self._train is None:
        del sets[name]
        continue
      own = dataclasses.replace(self._section, limit=self._settings.own_limit)
      sets[name] = dataclasses.replace(sets[name], prompts=own)
      parts[name] = Part(self._settings.own_share, held_out=True), self._length
    return sets, parts
