"""Loads models that read the policy's answers: reward models, value models, teachers.

Their kind, tokeniser and context are checked before the weights are read, which may take minutes.
"""

from collections.abc import Iterable

from posttrain_jax.assembly.model import Policy, digests, find_tokenizer, load_model, read_config
from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import InputError


def load_reader(
  path: str, tokenizer: Tokenizer | None, where: str, *, scalar_head: bool | None = None, engines: Iterable[Engine] = ()
) -> tuple[Policy, dict[str, str]]:
  """Loads a model that reads a policy's answers.

  Args:
    path: PATH_OR_NAME.
    tokenizer: the policy's; the model's has to be the same, as answers are not tokenised again. None for a model that
      reads their text, in tokens of its own.
    where: the config field that has the path.
    scalar_head: whether it has to be a reward model (True) or a language model (False); None takes both.
    engines: draw the answers that it reads; its context must hold them.

  Returns:
    (model and float32 parameters, `where` to the digest of its weights).

  Raises:
    InputError: if there is no such model, if it is of the other kind, if its tokeniser is another one, or if answers
      may outgrow its context.
  """
  config = read_config(path)
  if scalar_head is not None and config.scalar_head != scalar_head:
    found, expected = ("language", "reward") if scalar_head else ("reward", "language")
    raise InputError(f"{where}: {path} is a {found} model, expected a {expected} model")
  own = find_tokenizer(path)
  if own is None and tokenizer is None:
    raise InputError(f"{where}: {path} has no tokeniser, expected a model with one")
  if tokenizer is not None and (own is None or own.digest() != tokenizer.digest()):
    raise InputError(f"{where}: {path} has another tokeniser than the policy, or none; expected the same")
  for engine in engines:
    engine.check_reader(config, where)
  config, params = load_model(path)
  return Policy(config, own, params), {where: digests(path, own)["model"]}
