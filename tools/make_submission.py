#!/usr/bin/env python3
"""Make the challenge's package from the results of an evaluation, and report whatever it still lacks.

The package is a zip with a folder for each system, named after its label: scores and decisions in the challenge's
files, and the meta file `<label>.meta.yaml`. The technical report (PDF) stands beside the folders. Clips have their
published names and are sorted by them; the same results give the same bytes.

A copy of each meta file is written beside the zip. It holds the facts that clips, records and results tell, and marks
the rest `TODO: ...`. The entrant edits the copy, which is kept, and makes the package again. total_parameters counts
the parameters that training and the score have fitted, MACS the network's multiply-accumulates for one vector.
Source: the challenge's submission rules of 2023, and the packages that were accepted in 2026.
"""

import argparse
import io
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import (
    FRONT_ENDS,
    NETWORKS,
    NOT_RECORDED,
    PATH,
    SCORES,
    InputError,
    Settings,
    as_text,
    choice,
    matching,
    option_type,
    parse_settings,
)

import yaml

from datasets.audio import read_header
from datasets.catalogue import Challenge, challenge_names, load_challenge
from datasets.clips import MachineFolders, clip_paths, parse_clip
from networks.names import PLACES, Experiment, Run, score_state_path
from networks.record import read_record
from runtime.command import command
from runtime.files import FileGroup
from runtime.wording import counted, listed
from tools.results.clips import Labels, read_labels, read_other_systems
from tools.results.files import Key, challenge_files, write_clip_values
from tools.results.metrics import harmonic_mean
from tools.results.notes import configurations, section_names
from tools.results.parameters import OF_A_SUBSET, THRESHOLD, Configuration, merged, mixtures
from tools.results.reading import read_results
from tools.results.result_record import problems_of
from tools.results.results import Results

LABEL = matching(
    r"[A-Za-z0-9-]+_[A-Za-z0-9-]+_task2_[1-4]",
    "<last name>_<institution>_task2_<1 to 4>, such as Lastname_INST_task2_1",
    str,
)
TODO = "TODO"
HEAD = f"""\
# {TODO} marks what you have to write. Correct the rest where your system differs from it. total_parameters: those
# fitted by training and the score. MACS: of the network, for one vector. Results: percent.
"""
FORM = Path(__file__).with_name("submission.meta.yaml")
METRICS = {"auc_source": "AUC (source)", "auc_target": "AUC (target)", "pauc": "pAUC"}  # key -> our name of the metric


def make(systems: dict[str, Path | str], settings: Settings) -> None:
    """Make the package of systems, label -> folder or score of ours; if results are missing, nothing is written."""
    challenge = load_challenge(settings.challenge, is_eval=True)
    published = published_names(challenge, settings)
    results = read_results(challenge, Experiment.of(settings, is_eval=True), settings.max_fpr, published)
    members: dict[str, bytes] = {}
    remarks: list[str] = []
    for label, place in systems.items():
        members |= score_files(label, place, results, published)
        made = meta_of(label, place, results, settings)
        path = settings.output / f"{label}.meta.yaml"
        text = HEAD + yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=120)
        meta = members[f"{label}/{path.name}"] = path.read_bytes() if path.is_file() else text.encode()
        origin = "kept" if path.is_file() else "wrote"
        remarks += [f"{origin} {path}, the same as in the zip", *unfinished(path, meta, made)]
    team = label.rpartition("_")[0]
    path = settings.output / f"{label if len(systems) == 1 else team}.zip"
    report = f"{team}.technical_report.pdf"
    if settings.report:
        members[report] = settings.report.read_bytes()
        if not members[report].startswith(b"%PDF"):
            raise InputError(f"{settings.report} is not a PDF file; give the technical report")
    elif zipfile.is_zipfile(path) and (former := zipfile.Path(path, report)).is_file():  # of the former package
        members[report] = former.read_bytes()
    with FileGroup() as group, zipfile.ZipFile(group.open(path, "wb"), "w") as archive:  # all files or none
        for name, content in sorted(members.items()):
            info = zipfile.ZipInfo(name)  # of 1980: the same results give the same bytes
            info.external_attr = 0o100644 << 16  # a plain file, readable by all
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
            if name.endswith(".yaml"):
                group.open(settings.output / Path(name).name, "wb").write(content)
    lines = [content.count(b"\n") for name, content in members.items() if "/anomaly_score_" in name]
    further = ", meta files and the technical report" if report in members else " and meta files"
    n_clips = counted(sum(lines) // len(systems), "clip")
    print(f"wrote {path}: {counted(len(systems), 'system')} of {n_clips}, scores, decisions{further}")
    n_known = sum(map(len, published.values()))
    n_expected = sum(challenge.n_clips(machine_type, "test") for machine_type in published)
    print(
        f"note: clip names compared with the {n_known} in the label list or --dataset_directory; the challenge has "
        f"{n_expected or 'an unknown number'}, and a package needs all"
    )
    if report not in members:
        print("note: no technical report, which the rules of 2026 require in the zip; give it as --report FILE.pdf")
    if others := [other.name for other in sorted(settings.output.glob(f"{team}*.zip")) if other != path]:
        print(f"warning: {', '.join(others)} beside it is from another package; submit one of them")
    print(*remarks, sep="\n")


# --- scores and decisions ---------------------------------------------------------------------------------------------


def published_names(challenge: Challenge, settings: Settings) -> Labels:
    """Map the test clips, labelled or not, to their published names, by the list of labels or the folder test, if any.

    By machine type: the reverse of a label list, to be read in place of one.
    """
    labels = read_labels(challenge, settings.dataset_directory, settings.eval_data_list)
    published = {}
    for machine_type in challenge.machine_types:
        test = MachineFolders(settings.dataset_directory, challenge.name, machine_type, is_eval=True).raw / "test"
        names = labels.get(machine_type) or {path.name: path.name for path in clip_paths(test)}
        published[machine_type] = {labelled: name for name, labelled in names.items()}
    return published


def score_files(label: str, place: Path | str, results: Results, published: Labels) -> dict[str, bytes]:
    """Make the challenge's files of a system, in a folder or ours of a score; they must cover all test clips."""
    challenge, experiment = results.challenge, results.experiment
    if isinstance(place, Path):
        folder, (clips, notes) = place, read_other_systems([str(place)], challenge, published)
        if clips.groupby(["system", "seed"]).ngroups > 1:
            raise InputError(f"--from {place} holds several systems or seeds; give the folder of one")
        for note in notes:
            print(note)
        sections = dict(iter(clips.groupby(["machine type", "section"])))
    else:
        folder, sections = experiment.results(place), results.clips_of(experiment.system(place))
    files: dict[str, bytes] = {}
    problems: list[str] = []
    for key in challenge.section_keys():
        rows = sections.get(key)
        if rows is None or rows["decision"].isna().any():
            problems.append(f"no {'scores' if rows is None else 'decisions'} of {section_names([key])}")
            continue
        rows = rows.sort_values("clip")
        problems += problems_of_names(set(rows["clip"]), key, challenge, published)
        for domain, pair in challenge_files(challenge, *key).items():
            of_file = rows if domain is None else rows[rows["domain"] == domain]
            problems += [f"no clips for {pair[0]}"] if of_file.empty else []
            for name, values in zip(pair, (of_file["score"], of_file["decision"].astype(int)), strict=True):
                text = io.StringIO()
                write_clip_values(text, of_file["clip"], values)
                files[f"{label}/{name}"] = text.getvalue().encode()
    if problems:
        raise InputError(
            f"{folder} does not hold the challenge's results: {listed(problems, separator='; ')}; nothing was written; "
            f"run 01 and 02 with -e for seed {experiment.seed}, complete the folder, or give the list as "
            "--eval_data_list"
        )
    return files


def problems_of_names(given: set[str], key: Key, challenge: Challenge, published: Labels) -> list[str]:
    """Compare the names of a section's clips with the published ones or, if unknown, check their form and number."""
    known = published[key[0]].values()
    clips = [parse_clip(Path(name)) for name in known or given]
    expected = {clip.name for clip in clips if clip.section == key[1] and not clip.label}
    problems = {"lacks": expected - given, "has unpublished names:": given - expected}
    n_clips = sum(challenge.clips[key[0]].get("test", {}).values())  # 0 if unknown
    if not known and n_clips not in (0, len(given)):
        problems[f"should have {n_clips} clips instead of"] = {str(len(given))}
    return [f"{section_names([key])} {verb} {listed(sorted(some), 3)}" for verb, some in problems.items() if some]


# --- the meta file ----------------------------------------------------------------------------------------------------


def meta_of(label: str, place: Path | str, results: Results, settings: Settings) -> dict:
    """Make a system's meta file, with marks where the entrant must write; more is known of ours, by a score."""
    development = load_challenge(results.challenge.name, is_eval=False)
    untested = (
        f"{TODO}: percent, or train and test the development set likewise, remove this file and make the package again"
    )
    figures = {machine_type: dict.fromkeys(METRICS, untested) for machine_type in development.machine_types}
    meta = yaml.safe_load(FORM.read_text(encoding="utf-8")) | {"results": {"development_dataset": figures}}
    meta["submission"]["label"] = label
    description = meta["system"]["description"]
    if isinstance(place, Path):
        description |= dict.fromkeys(description, f"{TODO}: describe it, or null")
    else:
        describe(meta, place, results, development, settings)
    raw = MachineFolders(settings.dataset_directory, development.name, "", is_eval=True).raw
    clips = sorted(raw.glob("*/test/*.wav"))
    rate = f"{read_header(clips[0]).sampling_rate / 1000:g} kHz" if clips else f"{TODO}: of the clips, such as 16 kHz"
    description["input_sampling_rate"] = rate
    return meta


def describe(meta: dict, score: str, results: Results, development: Challenge, settings: Settings) -> None:
    """Fill in what records and results tell about a system of ours; where its runs differ: `batch_size 256 or 77`."""
    system, scored_by = results.experiment.system(score), SCORES.get(score)
    for note in results.notes:
        if note.startswith((f"{system}, ", f"{system} is a mixture")):
            print(f"note: {note}")
    by_section = configurations(results, system)
    configuration = merged(by_section.values())
    for machine_type, means in development_figures(development, score, configuration, settings).items():
        meta["results"]["development_dataset"][machine_type] |= means
    texts = {name: as_text(value) for name, value in settings.values.items()} | configuration

    def values(names: Iterable[str], *without: str) -> str:
        return ", ".join(f"{name} {texts[name]}" for name in names if name not in without)

    gamma = (
        f"the {settings.decision_threshold:g} quantile of a gamma distribution fitted to scores of the training data"
    )
    aggregation = [scored_by.description or described(scored_by), values(option.name for option in scored_by.options)]
    description = meta["system"]["description"]
    description |= {
        "aggregation_method": "; ".join(filter(None, aggregation)),
        "domain_generalization_method": scored_by.domain_generalization,
        "decision_making": f"scores above {configuration.get(THRESHOLD, gamma)}",
    }
    if not scored_by.needs_network:
        description |= dict.fromkeys(("acoustic_features", "machine_learning_method"), f"{TODO}: describe {score}")
        return
    front_end, network = FRONT_ENDS.get(settings.front_end), NETWORKS.get(settings.model)
    features = [*settings.affecting("features"), "frames", "frame_hop_length"]
    training = values(settings.affecting("training"), "model", *NOT_RECORDED, *features)
    scope = "one network for all machine types" if network.joint else "a network for each machine type and section"
    description |= {
        "acoustic_features": f"{described(front_end)}, in {front_end.unit}; {values(features, 'front_end')}",
        "machine_learning_method": f"{described(network)}, {scope}; {training}",
    }
    if unrecorded := [key for key, of_section in by_section.items() if "frames" not in of_section]:
        print(
            f"note: no record tells how the networks of {section_names(unrecorded)} were trained; the meta file has "
            "the values of baseline.yaml and the command line"
        )
    recorded = {
        p: configuration[p.name] for p in settings.parameters("features", "training") if p.name in configuration
    }
    if not any(" or " in text for text in recorded.values()):  # else networks may differ in size
        trained = settings.replace(**{p.name: p.type.read(text) for p, text in recorded.items()})
        runs = [results.experiment.run(development.name, *key) for key in by_section]
        meta["system"]["complexity"] |= complexity(trained, scored_by, runs)


def described(cls: Any) -> str:
    """Describe a class by its name and description; an extension's class without one gets a mark."""
    text = getattr(cls, "description", "")  # which a front end may lack
    if cls.extension and not text:
        return f"{TODO}: describe {cls.name} of {cls.extension.path.name}"
    return f"{cls.name}: {text}" if text else cls.name


def development_figures(
    development: Challenge, score: str, evaluation: Configuration, settings: Settings
) -> dict[str, dict[str, float]]:
    """Compute the development set's metrics in percent by machine type, harmonic means over its sections.

    Stale results, and those of another configuration than the `evaluation`'s, are left out, which is printed.
    """
    experiment = Experiment.of(settings, is_eval=False)
    system = experiment.system(score)
    results = read_results(development, experiment, settings.max_fpr)
    if system not in results.names:
        return {}
    reasons: dict[str, str] = {}  # machine type -> why its figures are left out
    for key, configuration in configurations(results, system).items():
        subsets = {"the evaluation set": evaluation, "the development set": configuration}
        reason = "; ".join(mixtures(subsets, without=[*OF_A_SUBSET, THRESHOLD]))
        record, run = results.records.get((system, *key)), experiment.run(development.name, *key)
        if record and (problems := problems_of(record, run, score)):
            reason = "; ".join(problems)
        elif "frames" in evaluation and "frames" not in configuration:
            reason = "no record tells their parameters"
        reasons |= {key[0]: reason} if reason else {}
    if reasons:
        print(
            f"note: {system}: development figures of {', '.join(reasons)} do not belong in the meta file: "
            f"{'; '.join(dict.fromkeys(reasons.values()))}"
        )
    return {
        machine_type: {
            key: round(100 * harmonic_mean(rows[name]), 2)  # type: ignore[operator] # none is undefined
            for key, name in METRICS.items()
            if name in rows and rows[name].notna().all()
        }
        for machine_type, rows in results.figures.loc[system].groupby("machine type")
        if len(rows) == len(development.sections[machine_type]) and machine_type not in reasons
    }


def complexity(settings: Settings, scored_by: Any, runs: list[Run]) -> dict[str, int]:
    """Count the parameters, and the multiply-accumulates for a vector if all layers are dense.

    Of the tensors that the score fitted for each run, the largest count: a machine type may have more training clips.
    """
    import torch  # these, with torch, only where a network is built to count its parameters
    from torch import nn

    from datasets.front_ends import make_front_end
    from networks.network import make_network
    from networks.tensor_files import load_tensors

    record = read_record(runs[0].record)
    labels = record.content.get("labels", {}) if record else {}
    with torch.device("meta"):  # sizes only: nothing is drawn, and no memory taken
        network = make_network(settings, make_front_end(settings).n_bins, labels)
    paths = [score_state_path(run.network, scored_by.name) for run in runs]
    fitted = (sum(tensor.numel() for tensor in load_tensors(path).values()) for path in paths if path.is_file())
    total = max(fitted, default=0)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad or name in scored_by.fitted_in_network:
            total += parameter.numel()
    layers = [m for m in network.modules() if m is not network and list(m.parameters(recurse=False))]
    if not all(isinstance(layer, nn.Linear | nn.BatchNorm1d) for layer in layers):
        return {"total_parameters": total}
    return {"total_parameters": total, "MACS": sum(m.weight.numel() for m in layers if isinstance(m, nn.Linear))}


def unfinished(path: Path, content: bytes, made: dict) -> Iterator[str]:
    """Yield where a meta file differs from the one `made` now, and the entries to write or correct, a line each."""
    try:
        entries, known = dict(leaves(yaml.safe_load(content))), dict(leaves(made))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not YAML ({' '.join(str(error).split())}); correct it, or remove it to have it written again"
        ) from error
    todo = [f"{key} is missing" for key in known if not any(entry.startswith(key) for entry in entries)]
    marks: dict[str, list[str]] = {}
    for key, value in entries.items():
        if TODO in str(value):
            marks.setdefault(str(value), []).append(key)
    todo += [f"{listed(keys, 3)}: still to be written ({mark})" for mark, keys in marks.items()]
    changed = [
        key
        for key, value in known.items()
        if value is not None and TODO not in str(value) and entries.get(key, value) != value
    ]
    heading = "complete the meta file, then run this again (what you write is kept; a removed file is written again):"
    if changed:
        yield f"differs from what this run would write: {listed(changed)}"
    yield heading if todo else "its entries are complete"
    yield from (f"  {line}" for line in todo)


def leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Yield dotted keys and values below mappings and lists, such as submission.authors.1.email."""
    if isinstance(value, dict | list) and value:
        for name, item in value.items() if isinstance(value, dict) else enumerate(value, 1):
            yield from leaves(item, f"{key}.{name}".lstrip("."))
    else:
        yield key, value


# --- the command line -------------------------------------------------------------------------------------------------


@command
def main() -> int:
    """Make the package that the command line names."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s --label LABEL [LABEL ...] [option ...]",
        description="Make the challenge's package from the results of an evaluation.",
        allow_abbrev=False,
    )
    either, several = parser.add_mutually_exclusive_group(), {"nargs": "+"}
    # fmt: off
    for name, kind, metavar, further, text in (
        ("label", LABEL, "LABEL", several | {"required": True},
         "of one to four systems, one each, such as Lastname_INST_task2_1"),
        ("score", SCORES, "NAME", several | {"dest": "scores"},
         "the anomaly score of each label's system [default: that of baseline.yaml]"),
        ("from", PATH, "DIR", several | {"dest": "folders"},
         "instead, the folder of each label's system: scores and decisions in files with the challenge's names"),
        ("challenge", choice(*challenge_names()), "NAME", {"default": "DCASE2023T2"}, "[%(default)s]"),
        ("output", PATH, "DIR", {"default": Path.cwd()}, "where to write [default: here]"),
        ("report", matching(r".+\.pdf", "a PDF file", Path), "FILE.pdf", {},
         "the technical report [default: that of the previous package]"),
        ("eval_data_list", PATH, "CSV", {},
         "the organisers' list of labels [default: eval_data_list_<year>.csv in the data set directory]"),
    ):
        group = either if name in ("score", "from") else parser
        group.add_argument(f"--{name}", type=option_type(kind), metavar=metavar, help=text, **further)
    # fmt: on
    settings = parse_settings(parser, names=(*PLACES, "seed", "model", "front_end", "decision_threshold"))
    labels, systems = settings.label, settings.folders or settings.scores or [settings.score]
    teams = {label.rpartition("_")[0] for label in labels}
    if not len(labels) == len(set(labels)) == len(systems) or len(teams) > 1:
        parser.error(
            f"--label {' '.join(labels)}: give one for each --score or --from; they may differ only in the final number"
        )
    make(dict(zip(labels, systems, strict=True)), settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
