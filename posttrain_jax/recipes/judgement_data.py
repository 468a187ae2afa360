"""Writes the data that a generative reward model is trained on: judgements with reasons, by the world's rules.

It is a stage of a recipe (`recipes.runners.function`). The answers are a policy's, as a collection has them, and those
of the world's authors: a reward model that RL works against has to know answers that the first policy seldom gives.
"""

import dataclasses
import pathlib
import random
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.facts import WorldSettings, make_world
from posttrain_jax.data.assistant_world.judgements import judgement
from posttrain_jax.data.assistant_world.requests import TEMPLATE, WorldRequest
from posttrain_jax.recipes.assistant_data import collected, write_rows
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.recipes.preferences import PAIRS
from posttrain_jax.runs.settings import at_least, parse

JUDGEMENTS = "judgements.jsonl"
