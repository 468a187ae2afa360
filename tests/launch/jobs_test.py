"""Tests the scripts that start jobs elsewhere, without starting any.

The tests look at the commands that would run, and at signals, restarts and time limits.
"""

import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess

import pytest
import yaml

from experiments.flags import EXIT_BAD_INPUT, EXIT_PREEMPTED

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
JOB = ("dapo", "--config=configs/tiny_dapo.py", "--workdir=/runs/a b", '--config.prompts.template=it\'s "{prompt}": #1')
OPTIONS = {
  "tpu_vm.sh": ["--name=n", "--zone=z", "--type=v5litepod-16", "--repository=https://example.org/p.git"],
  "jobset.sh": ["--name=n", "--image=i", "--accelerator=tpu-v5p-slice", "--topology=2x2x4", "--hosts=4", "--claim=c"],
  "xpk.sh": ["--name=n", "--cluster=c", "--zone=z", "--project=p", "--type=v5p-32", "--image=i", "--storage=s"],
}
# Longer than a step and a checkpoint take, where the platform grants it.
LEAST_GRACE = 300


def bash(*arguments, **environment):
  return subprocess.run(
    ["bash", *arguments],
    cwd="/",
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    stdin=subprocess.DEVNULL,
    timeout=60,
  )


def dry_run(script, *options, job=JOB):
  child = bash(LAUNCH / script, *OPTIONS[script], *options, "--dry_run", *job)
  assert child.returncode == 0, child.stderr
  return child.stdout


def commands(text):
  """Splits the printed commands into lists of words, as a shell would."""
  return [shlex.split(line) for line in text.splitlines()]


def options(command):
  return dict(word.removeprefix("--").split("=", 1) for word in command if word.startswith("--") and "=" in word)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_syntax(script):
  child = bash("-n", script)
  assert child.returncode == 0, child.stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck(script):
  child = subprocess.run(["shellcheck", "--external-sources", "--shell=bash", script], cwd=ROOT, capture_output=True)
  assert child.returncode == 0, child.stdout.decode()


@pytest.mark.parametrize("script", OPTIONS)
def test_what_is_wrong_with_the_command_is_said_in_a_line(script):
  given = OPTIONS[script]
  for arguments, message in (
    ((*given[1:], *JOB), "error: --name: missing, expected: bash launch/"),
    ((*given, "--nmae=x", *JOB), "error: found --nmae=x, expected: bash launch/"),
    ((*given, "ppo"), "error: METHOD: found ppo, expected sft, dpo, grpo or dapo, in: bash launch/"),
    (given, "error: METHOD: found nothing, expected"),
  ):
    child = bash(LAUNCH / script, *arguments)
    assert child.returncode == EXIT_BAD_INPUT and child.stdout == ""
    assert child.stderr.startswith(message) and child.stderr.count("\n") == 1


@pytest.fixture
def checkout(tmp_path):
  """Makes a checkout with the launch scripts and a made-up Python.

  That Python prints the arguments it was called with, or does what $PROGRAM says.
  """
  shutil.copytree(LAUNCH, tmp_path / "launch")
  python = tmp_path / ".venv" / "bin" / "python"
  python.parent.mkdir(parents=True)
  python.write_text('#!/usr/bin/env bash\n[ -z "${PROGRAM:-}" ] || eval "$PROGRAM"\nprintf "%s\\n" $$ "$@"\n')
  python.chmod(0o755)
  return tmp_path


def test_every_host_runs_one_process_that_takes_the_shells_place(checkout):
  child = subprocess.Popen(["bash", checkout / "launch" / "run.sh", *JOB], cwd="/", stdout=subprocess.PIPE, text=True)
  output, _ = child.communicate(timeout=60)
  assert output.splitlines() == [str(child.pid), "-m", "experiments.dapo", "--distributed", *JOB[1:]]


def test_sigterm_reaches_the_process_and_its_exit_code_comes_back(checkout):
  environment = {**os.environ, "PROGRAM": "trap 'exit 75' TERM; echo ready; while :; do sleep 0.05; done"}
  command = ["bash", checkout / "launch" / "run.sh", *JOB]
  child = subprocess.Popen(command, cwd="/", env=environment, stdout=subprocess.PIPE, text=True)
  assert child.stdout.readline() == "ready\n"
  child.send_signal(signal.SIGTERM)
  assert child.wait(60) == EXIT_PREEMPTED


def started_by_systemd(command):
  """Returns properties and program of a host's `systemd-run`, from the command given to ssh."""
  words = shlex.split(command.split("sudo systemd-run ")[1])
  properties = dict(word.removeprefix("--property=").split("=", 1) for word in words if word.startswith("--property="))
  return properties, words[words.index("bash") :]


@pytest.mark.parametrize(("more", "nodes"), [((), ["n"]), (("--queued=1", "--slices=2", "--spot=1"), ["n-0", "n-1"])])
def test_tpu_vm(more, nodes):
  create, *steps = commands(dry_run("tpu_vm.sh", *more))
  found = options(create)
  assert found["accelerator-type"] == "v5litepod-16" and found["zone"] == "z" and found["runtime-version"]
  if more:
    assert create[:6] == ["gcloud", "compute", "tpus", "queued-resources", "create", "n"]
    assert (found["node-count"], found["node-prefix"]) == ("2", "n") and "--spot" in create
  else:
    assert create[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "create", "n"] and "--spot" not in create
  assert [step[:5] for step in steps] == [["gcloud", "compute", "tpus", "tpu-vm", "ssh"]] * 2 * len(nodes)
  assert [step[5] for step in steps] == nodes * 2 and all("--worker=all" in step for step in steps)

  install, start = options(steps[0])["command"], options(steps[-1])["command"]
  assert "git clone https://example.org/p.git posttrain" in install and install.endswith("prepare_environment tpu")
  for command in (install, start):
    assert bash("-n", "-c", command).returncode == 0
  properties, program = started_by_systemd(start)
  assert program == ["bash", "launch/run.sh", *JOB]
  assert (properties["Restart"], properties["RestartPreventExitStatus"]) == ("on-failure", str(EXIT_BAD_INPUT))
  assert properties["KillMode"] == "mixed" and int(properties["TimeoutStopSec"]) >= LEAST_GRACE


def test_tpu_vm_with_slices_that_do_not_come_together():
  child = bash(LAUNCH / "tpu_vm.sh", *OPTIONS["tpu_vm.sh"], "--slices=2", "--dry_run", *JOB)
  assert child.returncode == EXIT_BAD_INPUT and "add --queued=1" in child.stderr


def test_jobset():
  manifest = yaml.safe_load(dry_run("jobset.sh", "--slices=2"))
  assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
  assert manifest["spec"]["failurePolicy"]["maxRestarts"] > 0
  (replicated,) = manifest["spec"]["replicatedJobs"]
  job = replicated["template"]["spec"]
  assert (replicated["replicas"], job["parallelism"], job["completions"], job["backoffLimit"]) == (2, 4, 4, 0)
  pod = job["template"]["spec"]
  (container,) = pod["containers"]
  assert container["command"] == ["bash", "launch/run.sh", *JOB]
  assert pod["restartPolicy"] == "Never"  # podFailurePolicy asks for it
  assert pod["terminationGracePeriodSeconds"] >= LEAST_GRACE
  # Exit code 2, and nothing else, fails a job for a reason at which the JobSet is not started again.
  (rule,) = job["podFailurePolicy"]["rules"]
  codes = {"containerName": container["name"], "operator": "In", "values": [EXIT_BAD_INPUT]}
  assert rule == {"action": "FailJob", "onExitCodes": codes}
  (final,) = manifest["spec"]["failurePolicy"]["rules"]
  assert final == {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
  assert pod["nodeSelector"] == {
    "cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice",
    "cloud.google.com/gke-tpu-topology": "2x2x4",
  }
  assert container["resources"]["limits"] == {"google.com/tpu": 4}
  (volume,), (mount,) = pod["volumes"], container["volumeMounts"]
  assert volume["name"] == mount["name"] and volume["persistentVolumeClaim"] == {"claimName": "c"}


def test_xpk():
  (command,) = commands(dry_run("xpk.sh"))
  assert command[:3] == ["xpk", "workload", "create"]
  found = options(command)
  assert shlex.split(found["command"]) == ["exec", "bash", "launch/run.sh", *JOB]
  # xpk itself starts again after 42 and 127 to 255.
  assert found["restart-on-exit-codes"].split(",") == ["1", str(EXIT_PREEMPTED)] and int(found["max-restarts"]) > 0
  assert int(found["termination-grace-period-seconds"]) >= LEAST_GRACE
  assert (found["tpu-type"], found["docker-image"], found["num-slices"]) == ("v5p-32", "i", "1")


def test_sky(checkout):
  task = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
  recovery = task["resources"]["job_recovery"]
  assert recovery["max_restarts_on_errors"] == 0  # it counts 2 as well
  assert EXIT_PREEMPTED in recovery["recover_on_exit_codes"]
  assert not {0, 1, EXIT_BAD_INPUT} & set(recovery["recover_on_exit_codes"])
  assert bash("-n", "-c", task["setup"]).returncode == 0 and "prepare_environment gpu" in task["setup"]
  nodes = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
  child = subprocess.Popen(
    ["bash", "-c", task["run"]],
    cwd=checkout,
    env={**os.environ, **task["envs"], **nodes},
    stdout=subprocess.PIPE,
    text=True,
  )
  output, _ = child.communicate(timeout=60)
  pid, _, module, distributed, *arguments = output.splitlines()
  assert (int(pid), module, distributed) == (child.pid, "experiments.dapo", "--distributed")  # exec all the way
  assert arguments[:2] == task["envs"]["ARGUMENTS"].split()
  assert arguments[2:] == ["--coordinator=10.0.0.1:8476", "--processes=2", "--process=1"]


def slurm(checkout, code, restarts=0):
  """Runs the batch script with a `srun` that ends with `code`.

  Returns the exit code, the output, and what scontrol was told.
  """
  bin = checkout / "bin"
  bin.mkdir(exist_ok=True)
  for name, text in {"srun": f'printf "%s\\n" "$@"; exit {code}', "scontrol": 'echo "scontrol $*"'}.items():
    (bin / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
    (bin / name).chmod(0o755)
  shutil.copy(LAUNCH / "slurm.sbatch", checkout / "spooled")  # Slurm runs a copy from elsewhere
  environment = {"PATH": f"{bin}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(checkout), "SLURM_JOB_ID": "7"}
  child = bash(checkout / "spooled", *JOB, SLURM_RESTART_COUNT=str(restarts), **environment)
  return child.returncode, child.stdout


@pytest.mark.parametrize(("code", "again"), [(0, False), (EXIT_BAD_INPUT, False), (EXIT_PREEMPTED, True), (134, True)])
def test_slurm_goes_back_into_the_queue(checkout, code, again):
  found, output = slurm(checkout, code)
  assert found == code
  assert output.splitlines()[:7] == ["--kill-on-bad-exit=0", "bash", "launch/run.sh", *JOB]
  assert ("scontrol requeue 7" in output) == again


def test_slurm_does_not_go_on_for_ever(checkout):
  assert "scontrol" not in slurm(checkout, 1, restarts=100)[1]


def test_slurm_asks_for_signals_in_time():
  asked = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", (LAUNCH / "slurm.sbatch").read_text(), re.MULTILINE))
  name, seconds = asked["signal"].split("@")
  assert name == "TERM" and int(seconds) >= LEAST_GRACE  # without B: the job's steps get it
  assert "requeue" in asked and asked["open-mode"] == "append"
  assert asked["ntasks-per-node"] == asked["gpus-per-node"]
