import pytest

from configs import tiny_dpo, tiny_generative_reward, tiny_reward_model, tiny_sft
from posttrain_jax.performance.compile import proof
from posttrain_jax.types import InputError
from tests.performance.compile.small_config import programs, small


@pytest.mark.parametrize(
  ("base", "changes"),
  [
    (tiny_sft, {"optimizer.schedule": "cosine", "micro_batches": 2}),
    (tiny_generative_reward, {"optimizer.schedule": "cosine"}),
    (tiny_reward_model, {"preferences.form": "ranking", "preferences.answers": 4}),
  ],
)
def test_the_update_of_fixed_data(base, changes):
  run = programs(small(base, **changes))
  assert set(run.programs) == {"update"} and set(run.arrays) == {"policy", "optimizer"}
  update = run.programs["update"]
  proof.lower(update)  # arguments that do not fit would be refused
  assert update.work.flops > 0 and update.takes == ("policy", "optimizer")


def test_rankings_are_as_wide_as_their_answers():
  pair, ranking = (
    programs(small(tiny_reward_model, **{"preferences.form": form, "preferences.answers": 4})).programs["update"]
    for form in ("pair", "ranking")
  )
  (_, two), (_, four) = pair.arguments, ranking.arguments
  assert two.parts.given.shape[-1] == 2 and four.parts.given.shape[-1] == 4
  assert pair.work.flops < ranking.work.flops < 2 * pair.work.flops


def test_what_does_not_fit():
  with pytest.raises(InputError, match="batch_size: 6 rows do not divide"):
    programs(small(tiny_sft, batch_size=6))
  with pytest.raises(InputError, match=r"^tokens_per_micro_batch: 9, expected 0 \(chosen\) or at least 57, which hold"):
    programs(small(tiny_reward_model, tokens_per_micro_batch=9))


@pytest.mark.parametrize("method", ["dpo", "kto", "kto_single"])
def test_dpo(method):
  config = small(tiny_dpo, **{"optimizer.schedule": "cosine"})  # whose end the data would say
  config.objective.update(loss=method.removesuffix("_single"))
  if method == "kto_single":
    config.preferences.form = "single"
  run = programs(config)
  assert set(run.programs) == {"update", "reference_logprobs"}
  for program in run.programs.values():
    proof.lower(program)
  (_, update) = run.programs["update"].arguments
  assert update.parts.pairs.counts.shape[-1] == {"dpo": 2, "kto": 3, "kto_single": 2}[method]
  assert (update.parts.pairs.desirable is None) == (method != "kto_single")
