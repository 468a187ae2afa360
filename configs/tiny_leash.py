r"""Trains with GRPO on a reward model's scores and a KL penalty (the KL leash).

    python -m experiments.reward_model --workdir=runs/leash/proxy --config.preferences.limit=300 --config.epochs=15 \
      --config.optimizer.warmup_updates=5
    for beta in 0.0 0.03 0.1 0.3 1.0; do
      python -m experiments.grpo --config=configs/tiny_leash.py:$beta --workdir=runs/leash/$beta \
        --config.reward_model=runs/leash/proxy --config.model.path=runs/leash/proxy/warmup --config.warmup.steps=0
    done
    python -m experiments.plot $(for b in 0.0 0.03 0.1 0.3 1.0; do echo --run=$b=runs/leash/$b; done) \
      --metric=eval/heldout/avg@8 --metric=eval/heldout/reward --x=eval/heldout/kl_to_start --sqrt_x --output=leash.png

The plot shows gold and proxy reward over the root of the KL, as in 2210.10760. The argument is β: one nat of KL to the
policy after the warm-up lowers the reward by β. The proxy is a reward model trained on few comparisons. Gold is the
verifier's verdict on held-out problems, which training never sees. All fields are explained in configs/tiny_dapo.py.

Seed 0, about 50 s of CPU time per run. The proxy orders 75 % of held-out pairs right. Columns: held-out avg@8 before,
at its best evaluation and after 80 steps; the proxy's mean score; the KL in nats per answer:

| β | gold | proxy | KL |
|---|---|---|---|
| 0 | 0.337, 0.369, 0.104 | 0.15 -> 4.25 | 26.1 |
| 0.03 | 0.337, 0.379, 0.129 | 0.15 -> 3.53 | 15.4 |
| 0.1 | 0.337, 0.385, 0.211 | 0.15 -> 3.13 | 7.1 |
| 0.3 | 0.337, 0.409, 0.406 | 0.15 -> 2.36 | 2.4 |
| 1 | 0.337, 0.431, 0.410 | 0.15 -> 1.82 | 1.1 |
"""

from ml_collections import ConfigDict

from configs import tiny_dapo


def get_config(arg: str = "") -> ConfigDict:
  config = tiny_dapo.get_config()
  config.steps = 80
  config.dynamic_sampling.enabled = False  # it uses verdicts, which are the gold reward here
  config.overlong.penalty_buffer = 0
  config.objective.update(clip_low=0.2, clip_high=0.2, aggregation="sequence_mean")
  config.advantage = "group_centered"
  config.reference.kl_in_reward = float(arg or 0.0)
  config.eval.kl = True
  config.eval.every = 10
  return config
