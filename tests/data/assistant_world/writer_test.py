import itertools

from posttrain_jax.data.assistant_world import language
from posttrain_jax.data.assistant_world.writer import Writer
from tests.data.assistant_world.small_world import WORLD


def test_every_fact_is_told_before_one_is_told_again():
  writer, told = Writer(WORLD, 0), {sentence: fact for fact in WORLD.told for sentence in fact.told}
  first, second = ([told[writer.fact()] for _ in WORLD.told] for _ in range(2))
  assert len({*first}) == len({*second}) == len(WORLD.told) and first != second


def test_documents_repeat_by_seed():
  one, again, other = (Writer(WORLD, seed) for seed in (0, 0, 1))
  texts = [[*itertools.chain(writer.story(), [writer.exercise(), writer.remark()])] for writer in (one, again, other)]
  assert texts[0] == texts[1] != texts[2]


def test_a_reply_may_ask_about_the_same():
  writer = Writer(WORLD, 0)
  for _ in range(40):
    request = writer.question()
    assert request.topic in " ".join(language.to_english_words(writer.same(request)))
