"""baseline.yaml: mistakes in it are reported."""

from common import DEFAULTS

import pytest
from synthetic import error_of


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("seed: 13711", "sede: 13711", "unknown key 'sede'"),
        ("epochs: 100", 'epochs: "many"', "epochs: 'many' is not allowed; it takes a whole number from 1"),
        ("epochs: 100", "epochs: true", "epochs: 'true' is not allowed"),
        ("epochs: 100", "epochs: 1.5", "epochs: '1.5' is not allowed"),
        ("use_cuda: true", "use_cuda: 2", "use_cuda: '2' is not allowed; it takes true, false"),
        ("epochs: 100\n", "epochs: 100\nepochs: 200\n", "key 'epochs' appears "),
        ("epochs: 100\n", "", "key 'epochs' is missing"),
        ("seed: 13711", "seed: [", "cannot read"),
        ("seed: 13711", "seed: !!python/object/apply:os.system [true]", "seed holds a list or a mapping; every key"),
    ],
)
def test_a_mistake_in_baseline_yaml_is_reported(call_train, options, tmp_path, before, after, sentence):
    text = DEFAULTS.read_text()
    assert before in text
    (tmp_path / "baseline.yaml").write_text(text.replace(before, after))
    err = error_of(call_train(*options, "--defaults", tmp_path / "baseline.yaml"))
    assert err.startswith("error: ") and len(err.splitlines()) == 1
    assert sentence in err
