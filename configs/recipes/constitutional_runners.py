"""Lists the kinds of stages that configs/recipes/constitutional_ai.py adds."""

import functools

from posttrain_jax.recipes import (
  ai_judge,
  chat_critiques,
  constitution_changes,
  constitutional_data,
  critique_rounds,
  harm_measures,
)
from posttrain_jax.recipes.runners import function
from posttrain_jax.runs.settings import parse

CRITIC_DATA = function(
  constitutional_data.write_critic_data,
  constitutional_data.CRITIC,
  constitutional_data.JUDGE,
  constitutional_data.PLAIN,
  check=functools.partial(parse, constitutional_data.CriticDataSettings),
  forecast=constitutional_data.forecast_critic_data,
)
RED_TEAM = function(
  constitutional_data.write_red_team,
  constitutional_data.RED_TEAM,
  constitutional_data.UNSEEN,
  check=functools.partial(parse, constitutional_data.RedTeamSettings),
  forecast=constitutional_data.forecast_red_team,
)
REVISE = function(
  critique_rounds.revise,
  critique_rounds.REVISIONS,
  critique_rounds.CRITIQUES,
  check=functools.partial(parse, critique_rounds.CritiqueSettings),
  forecast=critique_rounds.forecast,
)
CHAT_REVISE = function(
  chat_critiques.revise,
  critique_rounds.REVISIONS,
  check=chat_critiques.check,
  forecast=chat_critiques.forecast,
)
JUDGE = function(
  ai_judge.judge,
  ai_judge.JUDGED,
  check=functools.partial(parse, ai_judge.JudgeSettings),
  forecast=ai_judge.forecast,
)
CHANGES = function(
  constitution_changes.weigh_anew,
  constitution_changes.CHANGES,
  check=functools.partial(parse, constitution_changes.ChangeSettings),
)
HARMS = function(
  harm_measures.measure,
  harm_measures.HARMS,
  harm_measures.PICTURE,
  check=functools.partial(parse, harm_measures.HarmSettings),
)
