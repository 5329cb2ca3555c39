"""The report of a challenge's results: report.html and its pictures, beside the summary tables (03 --report).

Reads the anomaly scores of all machine types and sections; thresholds, logs, networks and clips as far as they are on
disk. What is not there is left out, and the report says so. Changes no result.
"""

from collections.abc import Iterable
from pathlib import Path

from common import SCORES, ExperimentPaths, InputError, all_or_nothing, atomic_write
from datasets.catalogue import Challenge
from tools.comparison import read_systems
from tools.metrics import harmonic_mean
from tools.official import CONFIDENCE, official_score
from tools.report_html import Chapter, Picture, page_html, table_html
from tools.report_plots import draw_heat_map, to_png
from tools.report_sections import LeftOut, ReportConfig, section_chapter
from tools.score_files import OFFICIAL, OFFICIAL_PLAIN, Labels, System, official_metrics

HOW_TO_READ = [
    "Scores: a clip's anomaly score, higher is more anomalous; to the right of the threshold it is decided to be "
    "anomalous. The threshold is the {quantile:g} quantile of the gamma distribution fitted in training.",
    "ROC curves: AUC (source) is of the source domain's normal clips against all anomalous ones, AUC (target) "
    "likewise; pAUC is of all clips, up to a false positive rate of {max_fpr:g} (the coloured region), and "
    "standardised, so that 50 % is chance for it too.",
    "Losses: mean squared errors of each epoch of training; the test clips have no part in them.",
    "Worst-ranked clips: for each score, the normal clip with the highest score of the section's normal clips (the "
    "first to be a false alarm), and the anomalous clip with the lowest score of its anomalous ones (the first to be "
    "missed). Rank 1 is the highest score of all. Shown are what the network is given, what it makes of it, and the "
    "difference: red where the clip is louder than the network expects, blue where it is quieter.",
    "Official score: the harmonic mean of the areas of all sections, in the table. Its interval says what another "
    "draw of test clips would do to it; another seed or machine is another matter.",
]


def write_report(
    challenge: Challenge,
    paths: ExperimentPaths,
    dataset_directory: Path,
    max_fpr: float,
    decision_threshold: float,
    labels: Labels | None = None,
    others: Iterable[Path] = (),
) -> Path:
    """Write the report and its pictures; return the page's path.

    Parameters
    ----------
    paths
        Of any run of the challenge: data set and tag are replaced.
    labels
        Of clips under published names, where they are known.
    others
        Folders of other systems' score files: they stand beside ours in the tables and the heat map.

    Raises
    ------
    InputError
        There are no scores, a score file is broken, or the report cannot be written.
    """
    config = ReportConfig(challenge, paths, dataset_directory, max_fpr, decision_threshold)
    all_systems = read_systems(challenge, paths, list(others), labels or {})
    systems = {score: all_systems.get(f"{paths.export_dir}_{score}", {}) for score in SCORES}
    if not any(systems.values()):
        folders = " or ".join(str(paths.results(score)) for score in SCORES)
        raise InputError(
            f"there are no scores of {challenge.name} with seed {paths.seed} in {folders}; run 02a_test.sh or "
            "02b_test.sh first, or check --result_directory, --export_dir and --seed"
        )
    left_out = _without_scores(config, systems)
    chapters = _overview(config, all_systems)
    for machine_type, section in _sections(challenge):
        by_score = {
            s: system[machine_type, section] for s, system in systems.items() if (machine_type, section) in system
        }
        if by_score:
            chapter, missing = section_chapter(config, machine_type, section, by_score)
            chapters.append(chapter)
            left_out += missing
    how = [sentence.format(quantile=config.decision_threshold, max_fpr=config.max_fpr) for sentence in HOW_TO_READ]
    chapters.append(Chapter("How to read this", how))
    split = "evaluation" if challenge.is_eval else "development"
    introduction = [f"Results of {paths.export_dir} ({paths.model}), seed {paths.seed}."]
    page = page_html(f"{challenge.name}, {split} data set", introduction, _sentences(left_out), chapters)
    _write(config, page, {picture.name: picture.png for chapter in chapters for picture in chapter.pictures})
    return paths.report(challenge.name)


def _write(config: ReportConfig, page: str, pictures: dict[str, bytes]) -> None:
    """Write page and pictures, and remove the pictures of an earlier report that this one has not."""
    name = config.challenge.name
    files = {config.paths.report_picture(name, picture): png for picture, png in pictures.items()}
    with all_or_nothing():
        for path, png in files.items():
            with atomic_write(path, "wb") as file:
                file.write(png)
        with atomic_write(config.paths.report(name)) as file:
            file.write(page)
    for path in config.paths.report_picture(name, "any").parent.glob("*.png"):
        if path not in files:
            path.unlink()


def _sections(challenge: Challenge) -> list[tuple[str, int]]:
    """Return machine types and sections in the tables' order."""
    return [(machine_type, section) for machine_type, sections in challenge.sections.items() for section in sections]


def _without_scores(config: ReportConfig, systems: dict[str, System]) -> list[LeftOut]:
    """Return which sections have no scores, by which score; a machine type alone where none of its sections has."""
    absent = []
    for score, system in systems.items():
        for machine_type, sections in config.challenge.sections.items():
            names = [config.section_name(machine_type, s) for s in sections if (machine_type, s) not in system]
            if len(names) == len(sections):
                names = [machine_type]
            absent += [(f"scores by {score}: there are none", name) for name in names]
    return absent


def _sentences(left_out: list[LeftOut]) -> list[str]:
    """Return a sentence for each reason, with the sections that it holds for."""
    sections: dict[str, list[str]] = {}
    for reason, section in left_out:
        if section not in sections.setdefault(reason, []):
            sections[reason].append(section)
    return [f"{reason[0].upper()}{reason[1:]} ({'; '.join(names)})." for reason, names in sections.items()]


def _overview(config: ReportConfig, systems: dict[str, System]) -> list[Chapter]:
    """Return the figures of all labelled sections: the official scores, a table, a heat map; nothing without labels."""
    labelled = {
        name: {key: scores for key, scores in system.items() if scores.is_labelled} for name, system in systems.items()
    }
    labelled = {name: system for name, system in labelled.items() if system}
    if not labelled:
        return []
    areas = {  # system -> machine type and section -> metric -> value
        name: {key: official_metrics(scores, config.max_fpr) for key, scores in system.items()}
        for name, system in labelled.items()
    }
    with_domains = any(set(OFFICIAL) <= set(values) for by_section in areas.values() for values in by_section.values())
    metrics = OFFICIAL if with_domains else OFFICIAL_PLAIN
    tables = tuple(_area_table(config, name, by_section, metrics) for name, by_section in areas.items())
    picture = Picture(
        "heat_map",
        to_png(draw_heat_map(_by_machine_type(config.challenge, areas, metrics))),
        "The same in colours; of several sections of a machine type, their harmonic mean.",
        "Heat map of the figures in the tables.",
        width="full",
    )
    sentences = [_official_sentence(config, name, system) for name, system in labelled.items()]
    return [Chapter("All machine types", sentences, tables, (picture,))]


def _official_sentence(config: ReportConfig, name: str, system: System) -> str:
    """Say what a system's official score is, or why it has none."""
    try:
        official = official_score(system, config.max_fpr)
    except InputError as error:
        return f"{name} has no official score: {error}."
    n_all, n = len(_sections(config.challenge)), len(system)
    low, high = 100 * official.low, 100 * official.high
    interval = f"{100 * CONFIDENCE:g} % interval {low:.2f} to {high:.2f}"
    return f"{name}: official score {100 * official.score:.2f} %, {interval} ({n} of {n_all} sections)."


def _area_table(config: ReportConfig, name: str, by_section: dict, metrics: tuple[str, ...]) -> str:
    """Return the table of a system's areas by section, and their harmonic means, as HTML."""
    rows = [
        [config.section_name(*key), *(_percent(values.get(metric)) for metric in metrics)]
        for key, values in by_section.items()
    ]
    means = [harmonic_mean([values.get(metric) for values in by_section.values()]) for metric in metrics]
    rows.append(["harmonic mean", *map(_percent, means)])
    return table_html(f"{name}, percent", ["machine type", *metrics], rows, n_means=1)


def _by_machine_type(challenge: Challenge, areas: dict, metrics: tuple[str, ...]) -> dict:
    """Return the harmonic means over each machine type's sections: metric -> system -> machine type -> value."""
    machine_types = [m for m in challenge.machine_types if any(key[0] == m for by in areas.values() for key in by)]
    return {
        metric: {
            score: {
                m: harmonic_mean([values.get(metric) for key, values in by.items() if key[0] == m])
                for m in machine_types
            }
            for score, by in areas.items()
        }
        for metric in metrics
    }


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"
