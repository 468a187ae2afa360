"""Holds DeepSeek-V3's numbers (2412.19437, section 5) for configs/recipes/deepseek_v3.py."""

ROWS = {}
LABELS = {}


def set_paper(config):
  raise NotImplementedError
