"""Results on disk, for the tests of what reads them, and a page's content."""

import json
from html.parser import HTMLParser
from types import SimpleNamespace

from common import SCORES

import numpy as np
from synthetic import folders, make_settings

from networks.names import Experiment
from networks.record import read_record
from tools.results.parameters import TEST_CODE, configuration_of
from tools.results.result_record import result_record_path

LABELLED = [
    f"section_00_{domain}_test_{label}_{i:04d}.wav"
    for domain in ("source", "target")
    for label in ("normal", "anomaly")
    for i in range(10)
]


class Parsed(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        """Keep a tag."""
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        """Keep some text."""
        self.words.append(data)

    def all(self, tag):
        """Return the attributes of all tags of a name."""
        return [attributes for name, attributes in self.tags if name == tag]


def run_of(root, machine_type="fan", seed=13711, is_eval=False):
    experiment = Experiment.of(make_settings(**folders(root), seed=seed), is_eval)
    return experiment.run("DCASE2023T2", machine_type, 0)


def write_values(path, values):
    """Write a file of scores or decisions, given by clip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{clip},{value}\n" for clip, value in values.items())
    path.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")


def write_scores(folder, machine_type="fan", seed=5, names=LABELLED, end=""):
    """Write a machine type's scores and decisions, the anomalies' 0.5 higher."""
    rng = np.random.default_rng([seed, len(machine_type)])
    scores = rng.normal(size=len(names)) + [0.5 * ("anomaly" in name) for name in names]
    for kind, values in {"anomaly_score": scores, "decision_result": (scores > 0).astype(int)}.items():
        path = folder / f"{kind}_{machine_type}_section_00_test{end}.csv"
        write_values(path, dict(zip(names, values.tolist(), strict=True)))


def write_own(root, *machine_types, seed=13711, names=LABELLED, is_eval=False, system="baseline_MSE"):
    """Write our own scores, and the result tables that the reference's summary reads; return their folder."""
    folder = root / "results" / ("eval_data" if is_eval else "dev_data") / system
    end = f"_seed{seed}_id(0_){'_Eval' if is_eval else ''}"
    for machine_type in machine_types:
        write_scores(folder, f"DCASE2023T2{machine_type}", seed, names, end)
        table = folder / f"result_DCASE2023T2{machine_type}_test{end}_roc.csv"
        table.write_text("section,AUC (source),AUC (target),pAUC\n00,0.5,0.5,0.5\n")
    return folder


def write_test_record(run, score="MSE", options=None, threshold_from=None, **values):
    """Write the record of a test by the network that there is, or by none."""
    network = read_record(run.record)
    threshold = SimpleNamespace(source=threshold_from)
    known = configuration_of(network, score if score in SCORES.names() else "MSE", make_settings(), threshold)
    configuration = {name: value for name, value in known.items() if not name.startswith(TEST_CODE)} | (options or {})
    record = {"run": run.name, "score": score, "date": "2026-11-21", "labelled": True, "max_fpr": 0.1}
    record |= {"decision_threshold": 0.9, "threshold": 1.5, "threshold_from": threshold_from, "network": None}
    record |= {"clips": {"00": {"number": 40}}, "files": {}, "configuration": configuration}
    record |= {"trained": network.content.get("date") if network else None}
    result_record_path(run.anomaly_scores(score, 0)).write_text(json.dumps(record | values))
