"""The parameters that networks were trained with, gathered from their records for display."""

from collections.abc import Iterable

from common import Settings, as_text
from networks.record import read_record
from tools.results.test_record import TestRecord
from tools.runtime.names import Run

Values = dict[str, list]  # parameter -> its values, one unless the runs differ


def trained_parameters(runs: Iterable[Run], settings: Settings) -> tuple[Values, list[Run]]:
    """Return the parameters of features and training in the runs' records, and the runs that have no record.

    Runs without a record, and parameters missing from a record of an earlier version, have the values of the settings.
    """
    parameters = settings.parameters("features", "training")
    values: Values = {parameter.name: [] for parameter in parameters}
    missing = []
    for run in runs:
        record = read_record(run.record)
        content = {} if record is None else record.content
        missing += [run] if record is None else []
        for p in parameters:
            where = f"{run.record}: {p.name}: "
            text = as_text(content[p.name]) if p.name in content else None
            value = settings.values[p.name] if text is None else p.type.read(text, where)
            if value not in values[p.name]:
                values[p.name].append(value)
    unusual = set(settings.affecting("features", "training"))
    unusual |= {p.name for p in parameters if values[p.name] != [p.since_absent]}
    return {name: found for name, found in values.items() if name in unusual}, missing


def score_options(records: Iterable[TestRecord]) -> Values:
    """Return the options of a score in the records of its tests; {} for a score of the baseline."""
    values: Values = {}
    for record in records:
        for name, value in (record.options or {}).items():
            values.setdefault(name, [])
            values[name] += [value] if value not in values[name] else []
    return values


def parameters_text(values: Values, names: Iterable[str]) -> str:
    """Return parameters as `n_mels 128, fmax null or 8000`."""
    return ", ".join(f"{name} {' or '.join(map(as_text, values[name]))}" for name in names)
