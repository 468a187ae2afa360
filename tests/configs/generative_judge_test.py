"""Tests the configs of generative judges: they are read, and they leave room for what is judged and written."""

from configs import tiny_generative_grpo
from configs.recipes import assistant, generative_judge
from posttrain_jax.assembly.generative_judge import GenerativeJudgeSettings
from posttrain_jax.data.assistant_world import language
from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.judgements import judgement
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import RequestKind
from posttrain_jax.data.judgements import judgements
from posttrain_jax.data.prompts import Row
from posttrain_jax.data.vocabularies import word_tokenizer
from posttrain_jax.pipelines.generative_reward import GenerativeRewardSettings
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.runs.settings import parse
from tests.data.assistant_world.small_world import WORLD


def in_world() -> GenerativeJudgeSettings:
  section = generative_judge.judge()
  section.path = "judge"
  return parse(GenerativeJudgeSettings, section, "judge")


def test_the_configs_are_read():
  assert parse(GRPOSettings, tiny_generative_grpo.get_config()).judge.path == "runs/judge"
  training = generative_judge.generative_reward()
  training.demonstrations.path = "judgements.jsonl"
  settings, judge = parse(GenerativeRewardSettings, training), in_world()
  # A judge is asked as it was trained.
  section = settings.demonstrations
  assert (section.worded, section.low, section.high) == (judge.wording, judge.low, judge.high)
  assert section.prompt_format == judge.prompt_format
  generative_judge.JUDGEMENTS.check(generative_judge.judgements())


def test_a_judge_has_room_for_the_longest_judgements():
  tokenizer, judge, writer = word_tokenizer(language.vocabulary()), in_world(), AnswerWriter(WORLD, 0)
  longest, asked = 0, 0
  for kind in RequestKind:
    for request in draw_requests(WORLD, kind, RequestPart.ALL, 60):
      row = judgement(request, writer.answer(request, Author.CAREFUL))
      (made,) = judgements([Row(row, "row")], low=judge.low, high=judge.high, wording=judge.wording)
      longest = max(longest, len(tokenizer.encode(made.columns["completion"])) + 1)
      (bare,) = judgements([Row(row | {"answer": ""}, "row")], low=judge.low, high=judge.high, wording=judge.wording)
      asked = max(asked, len(tokenizer.encode(bare.columns["prompt"])))
  assert longest <= judge.max_new_tokens
  assert asked + assistant.LONGEST["max_new_tokens"] <= judge.max_prompt_length
  assert (
    judge.max_prompt_length + judge.max_new_tokens <= generative_judge.generative_reward().demonstrations.row_length
  )
