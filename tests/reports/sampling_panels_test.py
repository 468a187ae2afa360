"""Tests that dynamic sampling's panels are there for a run with their metrics, and for no other."""

import numpy as np

from posttrain_jax.reports import training_panels


def curves(**columns):
  """Maps the title of each panel to the labels of its curves."""
  columns = {"step": np.arange(3.0)} | {name.replace("__", "/"): np.array(each) for name, each in columns.items()}
  return {
    panel.title: [curve.label for curve in panel.curves]
    for heading, panels in training_panels.sections(columns)
    for panel in panels
    if heading == "Sampling"
  }


def test_what_goes_on_from_step_to_step():
  names = ("in_flight_groups", "in_flight_tokens", "waiting_groups", "waiting_tokens")
  found = curves(**{f"sampling__{name}": [0.0, 0.0, 0.0] for name in names})  # none, of a run that could have had some
  assert found == {
    "Groups left for the next step": ["unfinished", "finished, behind an unfinished one"],
    "Tokens left for the next step": ["of unfinished groups", "of groups that wait"],
  }


def test_surplus_and_retired_prompts_only_where_there_ever_are_any():
  always = dict(sampling__groups_trained=[16, 16, 16], sampling__prompts_seen=[20, 40, 60])
  plain = curves(**always, sampling__surplus=[0, 0, 0], sampling__prompts_retired=[0, np.nan, 0])
  assert plain == {
    "What dynamic sampling kept and dropped": ["trained on"],
    "Prompts": ["drawn at least once"],
  }
  both = curves(**always, sampling__surplus=[0, 7, 0], sampling__prompts_retired=[np.nan, 0, 3])
  assert both == {
    "What dynamic sampling kept and dropped": ["trained on", "surplus: thrown away"],
    "Prompts": ["drawn at least once", "retired: always solved"],
  }
  assert "Prompts" not in curves(sampling__prompts_retired=[0, 0, 0])
