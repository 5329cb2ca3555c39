"""The report of a challenge's results: report.html and its pictures, beside the summary tables (03 --report).

All figures are those of the summary tables (tools/results/tables.py). Thresholds, logs, networks and clips are read as
far as they are on disk. What is missing is left out and reported. Changes no result.
"""

from pathlib import Path

from common import SCORES, InputError, Settings

from runtime.files import FileGroup
from runtime.progress import progress
from runtime.wording import listed
from tools.report.overview import overview_chapters
from tools.report.page import Chapter, capital, render
from tools.report.sections import section_chapters
from tools.results.notes import heading, origins, section_name
from tools.results.results import Results
from tools.results.tables import Table

HOW_TO_READ = {  # by how the names of pictures begin
    "scores": "Scores: higher is more anomalous; clips to the right of the threshold are judged anomalous. "
    "False alarms are normal clips judged anomalous, hits are anomalous clips judged so.",
    "roc": "ROC curves: {domains}pAUC takes all clips up to a false positive rate of {max_fpr:g} (the shaded region), "
    "and is standardised, so that chance is 50 % for it too.",
    "losses": "Losses: one value for each epoch of training; test clips are not used.",
    "clip": "Worst-ranked clips: for each score, the normal clip of the section that scores highest (the first false "
    "alarm) and the anomalous clip that scores lowest (the first miss). Rank 1 is the highest score. Shown are the "
    "network's input, its reconstruction and the difference: red where the clip is louder than the network expects, "
    "blue where it is quieter. The page links to the recordings: they play as long as page and data set stay where "
    "they are.",
}
DOMAINS = "AUC (source) sets the source domain's normal clips against all anomalous ones, AUC (target) likewise; "
HOW_TO_READ_OFFICIAL = (
    "Official score: see the rules of that year's challenge. Its interval reflects the draw of test clips, not the "
    "seed or the machine."
)


def write_report(results: Results, tables: list[Table], settings: Settings) -> Path:
    """Write the report of results and their tables, and its pictures; return the page's path."""
    experiment, challenge = results.experiment, results.challenge
    keys = [key for key in challenge.section_keys() if any(key in results.clips_of(name) for name in results.own)]
    if not keys:
        raise InputError(
            f"there is no report, since there are no scores of {challenge.name} with seed {experiment.seed} below "
            f"{experiment.split_results}; run 02a_test.sh or 02b_test.sh first, or copy the anomaly_score files as well"
        )
    page = experiment.report(challenge.name)
    chapters = overview_chapters(results, tables)
    files: dict[Path, str | bytes] = {}
    for key in progress(keys, len(keys), "report", "sections"):
        chapter, clips_page, clips = section_chapters(results, settings, key)
        chapters.append(chapter)
        files[clips_page] = render(f"{heading(results)}: {chapter.title}", [], {}, [clips])
    left_out: dict[str, dict[str, None]] = {}  # reason -> titles of chapters
    for chapter in chapters:
        for reason in chapter.left_out:
            left_out.setdefault(reason, {})[chapter.title] = None
        for picture in chapter.pictures:
            files[experiment.report_picture(challenge.name, picture.name)] = picture.png
    reasons = _without_scores(results)
    reasons += [f"{capital(reason)} ({'; '.join(names)})." for reason, names in left_out.items()]
    shown = {path.name.partition("_")[0] for path in files}
    domains = DOMAINS if (results.clips["domain"] == "target").any() else ""
    how = [HOW_TO_READ[kind].format(domains=domains, max_fpr=results.max_fpr) for kind in HOW_TO_READ if kind in shown]
    how += [] if results.rule == "own" else [HOW_TO_READ_OFFICIAL]
    chapters.append(Chapter("How to read this", how))
    notices = {"Before you compare": results.notes, "What is left out": reasons}
    files[page] = render(heading(results), origins(results), notices, chapters)
    with FileGroup() as group:
        for path, content in files.items():
            group.open(path, "wb" if isinstance(content, bytes) else "w").write(content)
    for path in experiment.report_picture(challenge.name, "any").parent.iterdir():
        if path not in files and path.suffix in (".png", ".html"):  # of an earlier report
            path.unlink()
    return page


def _without_scores(results: Results) -> list[str]:
    """Return a sentence for each score that sections lack."""
    sentences, experiment, keys = [], results.experiment, results.challenge.section_keys()
    for system in dict.fromkeys((*results.own, *map(experiment.system, SCORES.builtin))):
        name, clips = system.removeprefix(f"{experiment.export_dir}_"), results.clips_of(system)
        if lacking := [section_name(results, key) for key in keys if key not in clips]:
            sentences.append(f"No {name} scores for {listed(lacking, 15)}.")
    return sentences
