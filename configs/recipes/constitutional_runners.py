"""Lists the kinds of stages that configs/recipes/constitutional_ai.py adds."""

from posttrain_jax.recipes import (
  ai_judge,
  chat_critiques,
  constitution_changes,
  constitutional_data,
  critique_rounds,
  harm_measures,
)
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.runners import function

CRITIC_DATA = function(
  constitutional_data.write_critic_data,
  constitutional_data.CRITIC,
  constitutional_data.JUDGE,
  constitutional_data.PLAIN,
  check=check_of(constitutional_data.CriticDataSettings),
  forecast=constitutional_data.forecast_critic_data,
)
RED_TEAM = function(
  constitutional_data.write_red_team,
  constitutional_data.RED_TEAM,
  constitutional_data.UNSEEN,
  check=check_of(constitutional_data.RedTeamSettings),
  forecast=constitutional_data.forecast_red_team,
)
REVISE = function(
  critique_rounds.revise,
  critique_rounds.REVISIONS,
  critique_rounds.CRITIQUES,
  check=check_of(critique_rounds.CritiqueSettings),
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
  check=check_of(ai_judge.JudgeSettings),
  forecast=ai_judge.forecast,
)
CHANGES = function(
  constitution_changes.weigh_anew,
  constitution_changes.CHANGES,
  check=check_of(constitution_changes.ChangeSettings),
)
HARMS = function(
  harm_measures.measure,
  harm_measures.HARMS,
  harm_measures.PICTURE,
  check=check_of(harm_measures.HarmSettings),
)
