"""baseline.yaml and --config files: mistakes in them are reported."""

from common import DEFAULTS

import pytest


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("--epoch: 5", "; did you mean epochs?"),
        ("learning_rate: 1\n-lr: 1", "key 'learning_rate' appears more than once"),
        ("--epochs: 0", "epochs: '0' is not allowed; it takes a whole number from 1"),
        ("epochs: many", "epochs: 'many' is not allowed"),
        ("epochs: true", "epochs: 'true' is not allowed"),
        ("epochs: 1.5", "epochs: '1.5' is not allowed"),
        ("use_cuda: 2", "use_cuda: '2' is not allowed; it takes true, false"),
        ("epochs", "it holds no `key: value` lines"),
        ("seed: [", "cannot read"),
        ("seed: !!python/object/apply:os.system [true]", "seed holds a list or a mapping; every key"),
    ],
)
def test_a_mistake_in_a_file_of_parameters_is_reported(fails, options, tmp_path, text, sentence):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    err = fails(*options, "--config", path)
    assert err.startswith("error: ") and len(err.splitlines()) == 1
    assert str(path) in err
    assert sentence in err


def test_a_key_that_baseline_yaml_lacks_is_reported(fails, options, tmp_path):
    path = tmp_path / "baseline.yaml"
    path.write_text(DEFAULTS.read_text().replace("epochs: 100\n", ""))
    assert f"error: {path}: key 'epochs' is missing" in fails(*options, "--defaults", path)
