"""Downloads of a challenge's recordings: archives fetched, verified and unpacked, evaluation clips labelled.

Called by the data_download scripts, and by train.py with is_auto_download. An archive is received in `downloads`
beside raw, verified as a whole, and unpacked; it is deleted last. So a stopped run leaves the archive, or a part of
it, and the next run completes the work. Recordings that are in place are left alone.
"""

import contextlib
import hashlib
import json
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from common import InputError

import requests

from datasets.archives import BROKEN, UNPACKING, unpack
from datasets.catalogue import Archive, Challenge, list_archives, load_challenge
from datasets.clips import MachineFolders, clip_paths
from datasets.labels import LabelList, label_clips, label_list_path, link_clips, parse_label_list, read_label_list
from runtime.files import atomic_write, process_lock, writing
from runtime.progress import Progress

PARTS = {"dev": "development set", "add": "evaluation set: training clips", "eval": "evaluation set: test clips"}
SPLITS = {"dev": ("train", "test"), "add": ("train",), "eval": ("test",)}  # folders of a part
DOMAIN_FOLDERS = ("source_test", "target_test")  # in 2021, instead of test

TIMEOUT = (10, 60)  # seconds: to connect, for one read
TRIES = 6  # in a row, without new bytes
LONGEST_WAIT = 600  # seconds, if a server asks for more
CHUNK = 1 << 16  # bytes
ADVICE = "choose another --dataset_directory, then run again: what has been fetched is kept"

sleep = time.sleep  # tests shorten it


@dataclass(frozen=True)
class Source:
    """Where archives and labels come from: the catalogue's addresses, a mirror of these, or the user's folder."""

    mirror: str | None = None
    directory: Path | None = None
    is_dry_run: bool = False  # print what would be fetched, and write nothing

    def address(self, url: str) -> str:
        """Move a catalogue's address to the mirror, if any."""
        return url if self.mirror is None else self.mirror + urlsplit(url).path


def fetch_part(challenge: str, part: str, machine_types: list[str], dataset_directory: Path, source: Source) -> None:
    """Download one of a challenge's PARTS for some machine types, by default all; label the test clips of `eval`."""
    subset = load_challenge(challenge, is_eval=part != "dev")
    names = subset.choose(machine_types)
    folders = {name: MachineFolders(dataset_directory, challenge, name, subset.is_eval) for name in names}
    for archive in list_archives(challenge, part):
        if archive.machine_type not in names:
            continue
        raw = folders[archive.machine_type].raw
        if source.is_dry_run:
            _announce(source.address(archive.url), raw)
            continue
        print(f"{archive.machine_type}: {archive.file} {_install(archive, raw, SPLITS[part], source)}", flush=True)
        for split in SPLITS[part]:
            n_clips, expected = len(clip_paths(raw / split)), subset.n_clips(raw.name, split)
            if n_clips < expected:
                print(f"warning: {raw} has {n_clips} of {expected} {split} clips; remove it to fetch it again")
    if part == "eval" and subset.label_list is not None:
        _label(subset, list(folders.values()), dataset_directory, source)


# --- archives ---------------------------------------------------------------------------------------------------------


def _install(archive: Archive, raw: Path, splits: tuple[str, ...], source: Source) -> str:
    """Fetch, verify and unpack an archive unless its files are in place; return what was done, as text."""
    received = raw.parents[1] / "downloads" / archive.file
    path = source.directory / archive.file if source.directory else received

    def is_in_place() -> bool:
        is_stopped = (raw / UNPACKING).exists() or (not source.directory and received.exists())
        return not is_stopped and all(clip_paths(raw / split) for split in splits)

    if is_in_place():
        return "is in place"
    if source.directory and not path.is_file():
        raise InputError(f"{path.parent} has no {path.name}; put it there, or correct or leave out --from_directory")
    lock = process_lock(received.with_name(f"{raw.name}.lock"), f"fetches {raw.name}", ADVICE)
    with lock, writing(raw, ADVICE, "read or write below"):
        if is_in_place():  # another process did it
            return "is in place"
        report = _fetch_and_unpack(archive, path, raw, source)
        clips = {folder: {clip.name: clip.name for clip in clip_paths(raw / folder)} for folder in DOMAIN_FOLDERS}
        n_merged = sum(link_clips(raw / folder, raw / "test", names) for folder, names in clips.items())
        if n_merged:
            report += f", {n_merged} clips of {' and '.join(DOMAIN_FOLDERS)} merged into test"
        if not source.directory or path.resolve() != received.resolve():
            received.unlink(missing_ok=True)
    return report


def _fetch_and_unpack(archive: Archive, path: Path, raw: Path, source: Source) -> str:
    """Fetch an archive to `path` unless it is the user's, verify and unpack it; return what was done, as text."""
    md5, owner = archive.md5, "the catalogue"
    if md5 is None and not source.directory:
        md5, owner = _zenodo_md5(archive, source), "Zenodo's API"
    if not source.directory and not (path.is_file() and _md5(path) == md5):  # else only unpacking was stopped
        download(source.address(archive.url), path)
    try:
        if md5 and _md5(path) != md5:
            raise zipfile.BadZipFile(f"its md5 is {_md5(path)}, but {owner} has {md5}")
        n_files = unpack(path, raw)
    except BROKEN as error:
        advice = f"replace it with {archive.url}"
        if not source.directory:
            path.unlink()
            advice = (
                f"it was removed: run again; if that fails too, check whether {archive.url} was replaced, and correct "
                "datasets/catalogue.yaml"
            )
        raise InputError(f"{path} cannot be used: {str(error) or 'it ends early'}; {advice}") from error
    origin = f"taken from {path.parent}" if source.directory else "fetched"
    evidence = f"md5 of {owner}" if md5 else "no md5 known: zip CRC"
    return f"{origin} ({path.stat().st_size / 1e6:,.1f} MB, {evidence}), {n_files} files unpacked"


def _zenodo_md5(archive: Archive, source: Source) -> str | None:
    """Ask Zenodo's API for an archive's md5; None if it has none."""
    try:
        files = json.loads(_read_url(source.address(archive.api_url)))["files"]
        return next(file["checksum"].removeprefix("md5:") for file in files if file["key"] == archive.file)
    except (InputError, ValueError, KeyError, TypeError, StopIteration) as error:  # no answer, or another kind of it
        print(f"{archive.file}: no md5 from Zenodo's API ({_reason(error)})", flush=True)
        return None


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


# --- HTTP -------------------------------------------------------------------------------------------------------------


def download(url: str, path: Path) -> None:
    """Fetch a file; complete a part that an earlier call left at `path`. The caller verifies the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        held = path.stat().st_size if path.exists() else 0
        try:
            _receive(url, path, held)
            return
        except requests.RequestException as error:
            response = error.response
            is_refusal = response is not None and response.status_code < 500 and response.status_code not in (408, 429)
            failures = 1 if path.exists() and path.stat().st_size > held else failures + 1
            if is_refusal or failures == TRIES:
                later = "run again later, or give archives you have to tools/data_download.sh with --from_directory"
                advice = "check the address in datasets/catalogue.yaml" if is_refusal else later
                raise InputError(f"{url} cannot be fetched: {_reason(error)}; {advice}") from error
            asked = "" if response is None else response.headers.get("Retry-After", "")  # seconds, or a date
            wait = min(int(asked), LONGEST_WAIT) if asked.isdecimal() else 2 ** (failures - 1)
            print(f"{url}: {_reason(error)}; next try in {wait} s", flush=True)
            sleep(wait)


def _receive(url: str, path: Path, held: int) -> None:
    """Send one request, and append its answer to the `held` bytes at `path`, or write it from the start."""
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={held}-"} if held else {})}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416 and held:  # nothing is left to send
            return
        if not response.ok:
            answer = f"the server answers {response.status_code} {response.reason or ''}".strip()
            raise requests.HTTPError(answer, response=response)
        held = held if response.status_code == 206 else 0
        rest = response.raw.length_remaining
        total = None if rest is None else held + rest
        bar = contextlib.closing(Progress(path.name, total, "B", done=held, scale=True))
        with bar as shown, path.open("ab" if held else "wb") as file:
            for piece in response.iter_content(CHUNK):
                file.write(piece)
                shown.update(len(piece))


def _read_url(url: str) -> bytes:
    """Fetch a small file's content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, url.rpartition("/")[2])
        download(url, path)
        return path.read_bytes()


def _announce(url: str, target: Path) -> None:
    """Print a file's address, its size if the server says it, and where it goes."""
    size = "size unknown"
    with contextlib.suppress(requests.RequestException, KeyError):
        response = requests.head(url, headers={"Accept-Encoding": "identity"}, timeout=TIMEOUT, allow_redirects=True)
        response.raise_for_status()
        size = f"{int(response.headers['Content-Length']) / 1e6:,.1f} MB"
    print(f"{url} ({size}) -> {target}", flush=True)


def _reason(error: BaseException) -> str:
    """Describe the root cause of an error."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


# --- labels -----------------------------------------------------------------------------------------------------------


def _label(subset: Challenge, folders: list[MachineFolders], dataset_directory: Path, source: Source) -> None:
    """Make each machine type's test_rename by the label list, which is fetched first if it is missing."""
    path = label_list_path(subset.name, dataset_directory)
    if source.is_dry_run:
        _announce(source.address(subset.label_list or ""), path)
        return
    if source.directory and not path.exists() and not (source.directory / path.name).is_file():
        print(f"{source.directory} holds no {path.name}: the clips stay unlabelled", flush=True)
        return
    labels = fetch_label_list(subset, path, source)
    for machine in folders:
        print(label_clips(machine, labels.get(machine.machine_type, {}), path), flush=True)


def fetch_label_list(subset: Challenge, path: Path, source: Source) -> LabelList:
    """Read a challenge's label list at `path`; fetch it first if it is missing."""
    if not path.exists():
        if subset.label_list is None:
            raise InputError(f"the catalogue has no label list of {subset.name}; give one with --eval_data_list")
        origin = str(source.directory / path.name) if source.directory else source.address(subset.label_list)
        content = Path(origin).read_bytes() if source.directory else _read_url(origin)
        parse_label_list(content, origin, subset.machine_types)  # an HTML page, for example, is no list
        with atomic_write(path, "wb") as file:
            file.write(content)
    return read_label_list(path, subset.machine_types)
