"""Tests in which order engines give and take their memory."""

from posttrain_jax.assembly.engine_turns import draw_between


class Written:
  """Stands in for an engine, and writes down what it is told."""

  def __init__(self, name, log, busy=False):
    self.name, self.log, self.busy = name, log, busy

  def release(self):
    self.log.append(f"{self.name} releases")

  def load(self, params, version):
    self.log.append(f"{self.name} loads {params} {version}")

  def generate(self, prompts, group_size):
    self.log.append(f"{self.name} draws {prompts} x {group_size}")
    return ["groups"]

  def unload(self):
    self.log.append(f"{self.name} unloads")


def test_idle_engines_give_their_memory_and_the_own_one_is_given_back():
  log = []
  others = [Written("idle", log), Written("busy", log, busy=True)]
  assert draw_between(Written("own", log), others, "params", 3, ["a", "b"], 2) == ["groups"]
  assert log == ["idle releases", "own loads params 3", "own draws ['a', 'b'] x 2", "own unloads"]
