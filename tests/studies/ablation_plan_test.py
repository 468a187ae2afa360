import pytest

from configs import dapo_ablation, tiny_sft
from posttrain_jax.studies import ablation_plan
from posttrain_jax.studies.ablation_plan import chosen_rows, chosen_seeds, plan
from posttrain_jax.types import InputError


@pytest.fixture(scope="module")
def study():
  return dapo_ablation.get_config()


@pytest.fixture(scope="module")
def jobs(study, tmp_path_factory):
  directory = tmp_path_factory.mktemp("study")
  return directory, {job.name: job for job in plan(study, directory, chosen_rows(study, "all"), [0, 3])}


def switches(config):
  return {
    "overlong_filter": config.overlong.filter == "loss",
    "clip_higher": config.objective.clip_high > config.objective.clip_low,
    "soft_overlong": config.overlong.penalty_buffer > 0,
    "token_mean": config.objective.aggregation == "token_mean",
    "dynamic_sampling": config.dynamic_sampling.enabled,
  }


def on(config):
  return {name for name, there in switches(config).items() if there}


def test_rows_switch_what_their_names_say(jobs):
  _, jobs = jobs
  techniques = list(dapo_ablation.TECHNIQUES)
  assert on(jobs["seed0/naive"].config) == set()
  for number, name in enumerate(techniques, 1):
    assert on(jobs[f"seed0/{name}"].config) == set(techniques[:number])
  for name in techniques[:-1]:
    assert on(jobs[f"seed0/without_{name}"].config) == set(techniques) - {name}
  for name in techniques[1:]:
    assert on(jobs[f"seed0/only_{name}"].config) == {name}
  kl = jobs["seed0/kl"].config
  assert on(kl) == set() and (kl.objective.kl_coefficient, kl.objective.kl_estimator) == (0.04, "k3")
  filtered = jobs["seed0/filter_without_refill"].config
  assert on(filtered) == set(techniques) and filtered.dynamic_sampling.admission == "filter"
  assert jobs["seed0/prompt_mean"].config.objective.aggregation == "prompt_mean"


def test_rates_are_the_same_for_naive_and_full(jobs):
  _, jobs = jobs
  rate = jobs["seed0/naive"].config.optimizer.learning_rate
  for name, factor in (("half", 0.5), ("double", 2.0)):
    for row in ("naive", "full"):
      assert jobs[f"seed0/{row}_{name}_rate"].config.optimizer.learning_rate == factor * rate


def test_a_seed_shares_its_warm_up_and_everything_else_that_is_no_technique(jobs):
  directory, jobs = jobs
  for seed in (0, 3):
    naive, full = (jobs[f"seed{seed}/{row}"] for row in ("naive", "dynamic_sampling"))
    assert naive.config.model.path == full.config.model.path == str(directory / f"seed{seed}" / "warmup")
    assert naive.needs == full.needs == (f"seed{seed}/warmup",)
    assert naive.config.seed == full.config.seed == seed and naive.config.warmup.steps == 0
    assert naive.config.prompts == full.config.prompts and naive.config.eval.sets == full.config.eval.sets
    warmup = jobs[f"seed{seed}/warmup"]
    assert warmup.program == "sft" and warmup.config.model.path == "" and warmup.config.seed == seed
    assert set(warmup.config) == set(tiny_sft.get_config())
  assert jobs["seed0/control_naive"].needs == ("seed0/warmup_control",)


def test_supervised_rows(jobs):
  directory, jobs = jobs
  more, best, answers = (jobs[f"seed0/{n}"] for n in ("continued_sft", "best_of_8_sft", "best_of_8_sft_answers"))
  assert more.program == best.program == "sft" and answers.program == "collect"
  assert more.needs == answers.needs == ("seed0/warmup",) and best.needs == ("seed0/best_of_8_sft_answers",)
  assert best.config.model.path == more.config.model.path == answers.config.model.path
  assert best.config.demonstrations.path == str(directory / "seed0/best_of_8_sft_answers/demonstrations.jsonl")
  assert answers.config.rollout.samples == 8 and answers.config.prompts.split == "train"


def test_jobs_stand_after_what_they_need(jobs):
  seen = set()
  for job in jobs[1].values():
    assert seen.issuperset(job.needs)
    seen.add(job.name)


def test_a_row_alone_is_a_config_with_its_own_warm_up(study):
  config = dapo_ablation.get_config("token_mean")
  assert config.warmup.steps > 0 and on(config) == {"overlong_filter", "clip_higher", "soft_overlong", "token_mean"}
  for wrong in ("nonsense", "continued_sft"):
    with pytest.raises(ValueError, match="expected one of"):
      dapo_ablation.get_config(wrong)


def test_every_contrast_is_of_rows_and_every_row_is_in_a_group(study):
  for family in study.contrasts.values():
    for row, against, _ in family:
      assert row in study.rows and against in study.rows
  assert {row for group in study.groups.values() for row in group} == set(study.rows)


def test_at_least_200_held_out_problems(study):
  heldout = study.base.eval.sets.heldout.prompts
  assert heldout.per_difficulty * len(heldout.difficulties) >= 200
  assert (heldout.split, study.base.eval.sets.sft_only.prompts.split) == ("held_out", "sft_only")


def test_rows_and_seeds_from_the_command_line(study):
  assert chosen_rows(study, "clip_higher,naive,clip_higher") == ["naive", "clip_higher"]
  assert chosen_rows(study, "main") == list(dapo_ablation.MAIN)
  assert set(chosen_rows(study, "all")) == set(study.rows)
  assert chosen_seeds("0-2,7") == [0, 1, 2, 7]
  for text in ("", "nonsense"):
    with pytest.raises(InputError, match="--rows"):
      chosen_rows(study, text)
  for text in ("", "3-1", "a"):
    with pytest.raises(InputError, match="--seeds"):
      chosen_seeds(text)


def test_a_change_of_what_is_no_field(study, tmp_path):
  study = study.copy_and_resolve_references().unlock()
  study.rows.naive.change = {"objective": {"clip_higher": 0.28}}
  with pytest.raises(InputError, match=r"rows.naive.change.objective.clip_higher: there is no such field"):
    plan(study, tmp_path, ["naive"], [0])
  study.rows.naive.task = "other"
  with pytest.raises(InputError, match="tasks: no 'other'"):
    ablation_plan.plan(study, tmp_path, ["naive"], [0])
