"""The parameters that networks were trained with, gathered from their records, for people to read."""

from collections.abc import Iterable

from common import BY_NAME, Run, Settings, as_text, extension_parameters, parse_value
from networks.record import read_record

Values = dict[str, list]  # parameter -> its values, one unless the runs differ


def trained_parameters(runs: Iterable[Run], settings: Settings) -> tuple[Values, list[Run]]:
    """Return the parameters of features and training in the runs' records, and the runs that have no record.

    For those, and for what a record of an earlier version does not hold, the values of the settings count.
    """
    names = list(settings.affecting("features", "training"))
    known = {**BY_NAME, **extension_parameters()}
    values: Values = {name: [] for name in names}
    missing = []
    for run in runs:
        record = read_record(run.record)
        content = {} if record is None else record.content
        missing += [run] if record is None else []
        for name in names:
            where = f"{run.record}: {name}: "
            text = as_text(content[name]) if name in content else None
            value = settings.values[name] if text is None else parse_value(known[name], text, where)
            if value not in values[name]:
                values[name].append(value)
    return values, missing


def parameters_text(values: Values, names: Iterable[str]) -> str:
    """Return parameters as `n_mels 128, fmax null or 8000`."""
    return ", ".join(f"{name} {' or '.join(map(as_text, values[name]))}" for name in names)
