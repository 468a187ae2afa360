"""Trains a generative reward model: a judge that writes its reasons, then a score.

    python -m experiments.generative_reward --config=configs/NAME.py --config.FIELD=value --workdir=DIR

Without --config it takes configs/tiny_generative_reward.py, which runs in two minutes on two CPU cores. Run again on
the same DIR to go on. Exit codes: 0 done, 2 bad config or input, 75 preempted after a checkpoint, 1 anything else.
"""

from experiments import flags


def main(config, workdir):
  from posttrain_jax.pipelines import generative_reward

  generative_reward.train(config, workdir)


if __name__ == "__main__":
  flags.run(main, default="tiny_generative_reward")
