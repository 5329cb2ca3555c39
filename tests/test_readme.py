"""The documentation names tests that exist."""

import re

from synthetic import REPOSITORY


def test_every_test_in_the_table_of_failures_exists():
    section = (REPOSITORY / "tests/README.md").read_text().partition("## What happens if ...")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (?!\.\.\.)(.+) \| .+ \| (.+) \|$", section, re.MULTILINE)
    assert len(lines) > 20
    for event, tests in lines:
        for module, names in re.findall(r"(\w+): ((?:`\w+`(?:, )?)+)", tests):
            source = (REPOSITORY / f"tests/test_{module}.py").read_text()
            for name in re.findall(r"\w+", names):
                assert f"\ndef test_{name}(" in source, f"{event}: test_{module}.py has no test_{name}"
        assert "`" in tests, event
