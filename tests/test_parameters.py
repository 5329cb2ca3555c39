"""baseline.yaml: mistakes in it are reported."""

import shutil
import sys

import pytest
from synthetic import REPOSITORY, run


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
        (
            "seed: 13711",
            "seed: !!python/object/apply:os.system [true]",
            "seed holds a list or a mapping; every key takes one value",
        ),
    ],
)
def test_a_mistake_in_baseline_yaml_is_reported(tmp_path, before, after, sentence):
    copy = tmp_path / "copy of the repository"
    for name in ("runtime", "datasets", "networks", "tools"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("common.py", "train.py"):
        shutil.copy(REPOSITORY / name, copy / name)
    text = (REPOSITORY / "baseline.yaml").read_text()
    assert before in text
    (copy / "baseline.yaml").write_text(text.replace(before, after))
    process = run(sys.executable, copy / "tools/jobs.py", "01_train.sh", "train", "-d", PYTHONDONTWRITEBYTECODE="1")
    assert process.returncode == 1
    assert process.stderr.startswith("error: ")
    assert len(process.stderr.splitlines()) == 1
    assert sentence in process.stderr
