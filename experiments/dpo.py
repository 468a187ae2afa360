"""Trains a policy by DPO and its variants, on given preferences or its own samples.

    python -m experiments.dpo --config=configs/NAME.py --config.FIELD=value --workdir=DIR

Without --config it takes configs/tiny_dpo.py, which runs in minutes on two CPU cores. Run again on the same DIR
to go on. Exit codes: 0 done, 2 bad config or input, 75 preempted after a checkpoint, 1 anything else.
"""

from experiments import flags


def main(config, workdir):
  from posttrain_jax.pipelines import dpo

  dpo.train(config, workdir)


if __name__ == "__main__":
  flags.run(main, default="tiny_dpo", distributed=True)
