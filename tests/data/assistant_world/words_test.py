from posttrain_jax.data.assistant_world import language, words


def test_no_name_is_also_a_word_or_another_name():
  names = [*words.ANIMALS, *words.DEVICES, *words.PEOPLE, *words.TOWNS]
  others = [*words.PARTS, *(value for relation in words.RELATIONS[:-1] for value in relation.values)]
  assert len({*names, *others}) == len(names) + len(others)
  assert not {*names} & {*language.ENGLISH_WORDS}


def test_each_category_of_harm_has_its_own_words():
  assert len(words.HARMS) == 8
  assert len({harm.principle for harm in words.HARMS}) == len({harm.effect for harm in words.HARMS}) == 8
  assert all(harm.principle.split()[0] == harm.name for harm in words.HARMS)


def test_each_relation_has_ten_values_of_one_word():
  assert all(len({*relation.values}) == 10 for relation in words.RELATIONS)
  assert all(value.isalpha() for relation in words.RELATIONS for value in relation.values)
