import json

from configs import from_json, tiny_dapo


def test_a_runs_config_comes_back(tmp_path):
  config = tiny_dapo.get_config()
  config.prompts.difficulties = (1, 2)
  file = tmp_path / "config.json"
  file.write_text(json.dumps({**config.to_dict(), "digests": {"prompts": "abc"}}))
  assert from_json.get_config(str(file)) == config
