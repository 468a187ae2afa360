"""Trains with GRPO, its loop as in `posttrain_jax.pipelines.grpo`.

    python -m experiments.grpo --config=configs/NAME.py --config.FIELD=value --workdir=DIR

Without --config it takes configs/tiny_grpo.py, which runs in minutes on two CPU cores. Run again on the same DIR to go
on. `--replay=OTHER` trains on the groups that another run stored (`logging.groups_every`), without sampling.
Exit codes: 0 done, 2 bad config or input, 75 preempted after a checkpoint, 1 anything else.
"""

from experiments import flags


def main(config, workdir):
  from posttrain_jax.pipelines import grpo

  grpo.train(config, workdir)


if __name__ == "__main__":
  flags.run(main, default="tiny_grpo", replays=True, distributed=True)
