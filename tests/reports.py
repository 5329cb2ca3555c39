"""Results for the tests of tools/report: their files, their report, and a page's content."""

from html.parser import HTMLParser
from pathlib import Path

from common import Settings, read_defaults

import numpy as np
from synthetic import folders

from datasets.catalogue import load_challenge
from datasets.clips import parse_clip
from networks.names import Experiment
from tools.report.report import write_report as write_report_of
from tools.results.clips import clips_table, read_other_systems
from tools.results.reading import read_results
from tools.results.tables import our_tables


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


def settings_of(root, export_dir="baseline"):
    own = {"export_dir": export_dir, "use_cuda": False, "extension": []}
    return Settings({**read_defaults(), **folders(root), **own})


def run_of(root, is_eval=False, export_dir="baseline", machine_type="fan"):
    return Experiment.of(settings_of(root, export_dir), is_eval).run("DCASE2023T2", machine_type, 0)


def scored_clips(names, seed=0):
    """Return a table of clips with normally distributed scores, without decisions."""
    scores = np.random.default_rng(seed).normal(10, 2, len(names))
    clips = [parse_clip(Path(name)) for name in names]
    rows = zip(clips, scores, strict=True)
    return clips_table(("MSE", 1, "fan", c.section, c.name, c.domain, c.label, score, np.nan) for c, score in rows)


def write_scores(run, names, score="MSE"):
    """Write the scores of the clips, and nothing else."""
    file = run.anomaly_scores(score, 0)
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (f'"{name}",{value}\n' for name, value in zip(names, scored_clips(names)["score"], strict=True))
    file.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")


def write_report(root, is_eval=False, export_dir="baseline", others=()):
    settings = settings_of(root, export_dir)
    challenge = load_challenge("DCASE2023T2", is_eval)
    rivals, _ = read_other_systems(map(str, others), challenge, {})
    results = read_results(challenge, Experiment.of(settings, is_eval), 0.1, others=rivals)
    report = write_report_of(results, our_tables(results, {}) if results.names else [], settings)
    text = report.read_text(encoding="utf-8")
    return report, text, " ".join(" ".join(Parsed(text).words).split())
