"""Takes critique, revision and SFT of configs/recipes/constitutional_ai.py to SmolLM2."""

from ml_collections import ConfigDict

from configs.recipes import public_data, smollm2
from configs.recipes.constitutional_runners import CHAT_REVISE
from posttrain_jax.recipes import chat_critiques, critique_rounds
from posttrain_jax.recipes.recipe import Stage, seeded
from posttrain_jax.recipes.runners import SFT


def set_smollm2(config: ConfigDict) -> None:
  """Puts SmolLM2 into the config of constitutional_ai."""
  config.base = smollm2.MODEL
  config.harmless = dict(path="")  # FILE of prompts such as hh-rlhf's, which is needed
  config.seed_tasks = smollm2.public(limit=6, prompt="{instruction}\n{input}", completion="{output}")
  config.xstest = smollm2.public(limit=4)  # of each label
  config.critiques = chat_critiques.rounds()
  smollm2.set_sft(config.sft, epochs=1)


def stages(config: ConfigDict) -> list[Stage]:
  """Returns critique, revision and SFT."""
  inputs = {"model.path": config.base, "constitution": config.constitution, "path": config.harmless.path}
  revisions = Stage("revisions", run=CHAT_REVISE, config=seeded(config.critiques, config.seed), inputs=inputs)
  revised = revisions.file(critique_rounds.REVISIONS)
  joined, rows = public_data.with_public(config, "seed_tasks", "revised", revised)
  inputs = {"model.path": config.base, "demonstrations.path": rows}
  cai = Stage("cai", run=SFT, config=seeded(config.sft, config.seed), inputs=inputs)
  answers = public_data.public_answers(config, {"base": config.base, "cai": cai.model})
  return [revisions, *joined, cai, *answers]
