"""Asks what demonstrations an assistant needs, as LIMA (2305.11206) does, in the assistant world.

    python -m experiments.recipe --recipe=configs/recipes/lima.py --workdir=runs/lima
    python -m experiments.recipe --recipe=configs/recipes/lima.py:paper

Every model is the base model after equally many updates on demonstrations. They differ in the demonstrations:

    curated     a careful author's answers to requests of all kinds
    uncurated   a crowd's answers to the same requests
    half        half as many careful answers; quarter and eighth have half as many again
    narrow      as many careful answers, all to questions of fact
    new_facts   as curated, but some of the questions of fact ask for facts that the corpus does not tell

`gains` compares them request by request. docs/results/recipes.md has the results.

`:paper` has the paper's numbers and is compiled, not run. The largest dense model here, Qwen2.5-32B, stands for LLaMA
65B, and Qwen2.5-7B for the 7B model of the paper's ablations.
"""

from ml_collections import ConfigDict

from configs import sft_lima
from configs.recipes import assistant, gates, measuring
from configs.recipes.costs import started
from posttrain_jax.recipes.recipe import Stage, seeded
from posttrain_jax.recipes.runners import SFT

# What `gains` compares: (name, before, after).
PAIRS = (
  ("curated_over_base", "base", "curated"),
  ("curated_over_uncurated", "uncurated", "curated"),
  ("quarter_over_eighth", "eighth", "quarter"),
  ("half_over_quarter", "quarter", "half"),
  ("curated_over_half", "half", "curated"),
  ("curated_over_narrow", "narrow", "curated"),
  ("new_facts_over_curated", "curated", "new_facts"),
)
_VARIANTS = ("curated", "uncurated", "half", "quarter", "eighth", "narrow", "new_facts")
# The paper's sets of demonstrations: stage to (size of the model, rows).
PAPER = dict(
  lima=("32B", 1000),
  filtered=("7B", 2000),  # Stack Exchange; diverse prompts
  unfiltered=("7B", 2000),  # Stack Exchange without the filter on quality
  wikihow=("7B", 2000),  # prompts that are all "how to ..."
  **{f"filtered_{rows}": ("7B", rows) for rows in (4000, 8000, 16_000, 32_000)},
)


def get_config(arg: str = "") -> ConfigDict:
  config = started(arg, "tiny", "paper")
  if arg == "paper":
    config.topology = "v5p:2x4x4"  # 32 chips, a row of the batch each
    config.sft = sft_lima.get_config()
    config.sft.mesh = dict(data=1, fsdp=-1, tensor=1)
    return config
  config.topology = ""  # a run
  config.base = ""  # PATH of a base model of the assistant world; empty: the usual one, which is built once
  config.demonstrations = assistant.demonstrations(  # the curated ones; about 800 of all kinds
    fact=240, unknown=96, sum=192, list=16, writing=64, harm=96, build=24, history=64
  )
  config.new_facts = 96  # demonstrations that tell new facts, in place of as many questions of fact
  config.sft = assistant.sft()
  config.sft.steps = 360  # updates of every model; with the curated demonstrations about 15 epochs
  config.sft.batch_size = 8
  config.sft.optimizer.update(schedule="linear", b2=0.95, weight_decay=0.1)
  config.gates = gates.bounds(*_VARIANTS)  # how much a model may lose against the base (configs/recipes/gates.py)
  config.measures = measuring.measures(requests=24, samples=2)
  return config


def get_stages(config: ConfigDict) -> list[Stage]:
  return _paper(config) if config.topology else _tiny(config)


def _tiny(config: ConfigDict) -> list[Stage]:
  stages, base = assistant.base(config.base)
  own = seeded(config.measures, config.seed)
  measured = {"base": measuring.measured("base", base, own, base)}
  stages.append(measured["base"])
  for name, demonstrations in _variants(config).items():
    data = Stage(
      f"{name}_data",
      run=assistant.DEMONSTRATIONS,
      config=seeded(demonstrations, config.seed),
      labels="demonstration",
    )
    model = Stage(
      name,
      run=SFT,
      config=seeded(config.sft, config.seed),
      inputs={"model.path": base, "demonstrations.path": data.file("demonstrations.jsonl")},
    )
    measured[name] = measuring.measured(name, model.model, own, base)
    stages += [data, model, measured[name]]
  stages.append(measuring.compared(PAIRS, measured, config.seed))
  return gates.gated(stages, dict.fromkeys(_VARIANTS, "base"), measured, config)


def _variants(config: ConfigDict) -> dict[str, ConfigDict]:
  """Returns the config of each variant's demonstrations."""
  curated = config.demonstrations
  counts = curated.kinds.to_dict()

  def with_kinds(kinds: dict[str, int]) -> ConfigDict:
    return ConfigDict({**curated.to_dict(), "kinds": kinds})

  found = {"curated": curated, "uncurated": ConfigDict({**curated.to_dict(), "author": "crowd"})}
  for name, part in (("half", 2), ("quarter", 4), ("eighth", 8)):
    found[name] = with_kinds({kind: count // part for kind, count in counts.items()})
  found["narrow"] = with_kinds({"fact": sum(counts.values())})
  found["new_facts"] = with_kinds({**counts, "fact": counts["fact"] - config.new_facts, "new_fact": config.new_facts})
  return found


def _paper(config: ConfigDict) -> list[Stage]:
  stages = []
  for name, (size, rows) in PAPER.items():
    own = seeded(config.sft, config.seed).unlock()
    own.model = dict(path=f"Qwen2.5-{size}", compute_dtype="bfloat16", remat="full", unroll=1)
    own.demonstrations.limit = rows
    if size == "7B":
      own.update(batch_size=64, dropout=dict(first=0.0, last=0.2))  # the paper's for its smaller models
    inputs, counts = {"demonstrations.path": f"{name}.jsonl"}, {"demonstrations.path": rows}
    stages.append(Stage(name, run=SFT, config=own, inputs=inputs, labels="demonstration", rows=counts))
  return stages
