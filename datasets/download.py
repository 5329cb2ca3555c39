"""Downloads of a challenge's recordings: archives fetched, verified and unpacked, evaluation clips labelled.

Called by the data_download scripts, and by train.py with is_auto_download. An archive X is received as `X.part` in
`downloads` beside raw, verified as a whole, and unpacked; X is deleted last. So a stopped run leaves one of these
files, and the next run completes its work. Recordings that are in place are left alone.
"""

import contextlib
import hashlib
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from common import InputError

import requests
from urllib3 import Retry
from urllib3.exceptions import InvalidHeader

from datasets.archives import UNPACKING, Archive, UnusableError, unpack
from datasets.catalogue import OWN, Challenge, list_archives, load_challenge
from datasets.clips import MachineFolders, clip_paths
from datasets.labels import (
    LabelList,
    label_clips,
    label_list_path,
    link_clips,
    link_or_copy,
    missing_labels,
    parse_label_list,
    read_label_list,
)
from runtime.files import atomic_write, process_lock, writing
from runtime.progress import Progress

PARTS = {"dev": "development set", "add": "evaluation set: training clips", "eval": "evaluation set: test clips"}
SPLITS = {"dev": ("train", "test"), "add": ("train",), "eval": ("test",)}  # folders of a part
DOMAIN_FOLDERS = ("source_test", "target_test")  # in 2021, instead of test

TIMEOUT = (10, 60)  # seconds: to connect, for one read
TRIES = 6  # in a row, without new bytes
RETRIED = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses
LONGEST_WAIT = 600  # seconds, if a server asks for more
CHUNK = 1 << 16  # bytes
HEADERS = {"Accept-Encoding": "identity"}
ADVICE = "choose another --dataset_directory, then run again: what has been fetched is kept"

sleep = time.sleep  # tests shorten it


@dataclass(frozen=True)
class Source:
    """Where archives and labels come from: the catalogue's addresses, a mirror of these, or the user's folder."""

    mirror: str | None = None
    directory: Path | None = None
    is_dry_run: bool = False  # print what would be fetched, and write nothing

    def address(self, url: str) -> str:
        """Return a catalogue's address, on the mirror if there is one."""
        return url if self.mirror is None else self.mirror + urlsplit(url).path


def fetch_part(challenge: str, part: str, machine_types: list[str], dataset_directory: Path, source: Source) -> None:
    """Download one part of a challenge's recordings.

    Parameters
    ----------
    part
        dev, add or eval, see PARTS; eval also labels test into test_rename, if there is a label list.
    machine_types
        To include; none: all of the challenge.
    """
    subset = load_challenge(challenge, is_eval=part != "dev")
    names = subset.choose(machine_types)
    folders = {name: MachineFolders(dataset_directory, challenge, name, subset.is_eval) for name in names}
    for archive in list_archives(challenge, part):
        if archive.machine_type in names:
            archive = replace(archive, url=source.address(archive.url), api_url=source.address(archive.api_url))
            raw = folders[archive.machine_type].raw
            if source.is_dry_run:
                print(f"{archive.url} ({_remote_size(archive.url)}) -> {raw}", flush=True)
            else:
                print(_fetch_archive(archive, raw, SPLITS[part], subset, source.directory), flush=True)
    if part == "eval" and subset.label_list is not None:
        _label(subset, folders, label_list_path(challenge, dataset_directory), source)


def download_for_run(folders: MachineFolders, training: bool, testing: bool, mirror: str | None) -> None:
    """Download those parts a run on a machine type needs that have no clips yet."""
    if folders.challenge == OWN:  # reading them reports what is missing
        return
    missing = [
        part
        for part, needed, folder in (
            ("add" if folders.is_eval else "dev", training, folders.train),
            ("eval" if folders.is_eval else "dev", testing, folders.test),
        )
        if needed and not clip_paths(folder)
    ]
    for part in dict.fromkeys(missing):
        fetch_part(folders.challenge, part, [folders.machine_type], folders.dataset_directory, Source(mirror))


# --- archives ---------------------------------------------------------------------------------------------------------


def _fetch_archive(
    archive: Archive, raw: Path, splits: tuple[str, ...], subset: Challenge, directory: Path | None
) -> str:
    """Install an archive's files in a machine type's folder unless they are in place; return a line that reports it."""
    path, given = raw.parents[1] / "downloads" / archive.file, directory and directory / archive.file
    marks = [raw / UNPACKING, *([] if given else [path, _part(path)])]  # of a run that was stopped

    def is_in_place() -> bool:
        return all(clip_paths(raw / split) for split in splits) and not any(mark.exists() for mark in marks)

    if not is_in_place():
        if given and not given.is_file():
            raise InputError(
                f"{given.parent} has no {given.name}; put it there, or correct or leave out --from_directory"
            )
        lock = process_lock(path.with_name(f"{raw.name}.lock"), f"fetches {raw.name}", ADVICE)
        with lock, writing(raw, ADVICE, "read or write below"):
            if not is_in_place():  # else another process has done it
                return _install(archive, raw, path, given)
    counts = [(split, len(clip_paths(raw / split)), subset.n_clips(raw.name, split)) for split in splits]
    fewer = [f"{split} has {n} of {expected} clips" for split, n, expected in counts if n < expected]
    problem = f", but {', '.join(fewer)}; remove {raw} to fetch it again" if fewer else ""
    return f"{archive.machine_type}: {archive.file} is in place{problem}"


def _install(archive: Archive, raw: Path, path: Path, given: Path | None) -> str:
    """Fetch an archive to `path`, or take the user's; verify and unpack it; return a line that reports it."""
    md5, evidence = (archive.md5.lower(), "md5 of the catalogue") if archive.md5 else _md5_of_api(archive, given)
    if given is None and not (path.is_file() and md5 in (None, _md5(path))):  # else an earlier run received all of it
        download(archive.url, path)
    file = given or path
    size = megabytes(file.stat().st_size)
    try:
        if md5 is not None and _md5(file) != md5:
            raise UnusableError(f"its md5 is {_md5(file)}, but {evidence.removeprefix('md5 of ')} has {md5}")
        n_files = unpack(file, raw)
    except UnusableError as error:
        if given is not None:
            raise InputError(f"{given} cannot be used: {error}; replace it with {archive.url}") from error
        path.unlink()
        raise InputError(
            f"{archive.file} from {archive.url} cannot be used and was removed: {error}; run again; if it fails "
            "again, check whether the file at that address was replaced, and correct datasets/catalogue.yaml"
        ) from error
    _merge_domains(raw)
    for rest in (path, _part(path)):
        if given is None or given.resolve() != rest.resolve():
            rest.unlink(missing_ok=True)
    source = f"taken from {given.parent}" if given else "fetched"
    return f"{archive.machine_type}: {archive.file} {source} ({size}, {evidence}), {n_files} files unpacked"


def _md5_of_api(archive: Archive, given: Path | None) -> tuple[str | None, str]:
    """Return the md5 that Zenodo's API has of an archive, None if unknown, and how the archive is verified."""
    if given is not None:
        return None, "no md5 known: zip CRC"
    try:
        files = json.loads(_read_url(archive.api_url))["files"]
        algorithm, _, md5 = next(file["checksum"] for file in files if file["key"] == archive.file).partition(":")
        if algorithm == "md5":
            return md5, "md5 of Zenodo's API"
    except InputError as error:
        print(f"{archive.file}: no md5 from Zenodo's API ({error})", flush=True)
    except (ValueError, KeyError, TypeError, StopIteration):  # another kind of answer
        pass
    return None, "no md5 known: size and zip CRC"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _merge_domains(raw: Path) -> None:
    """Link the clips of source_test and target_test together into test, as the reference copies them."""
    n_new = 0
    for name in DOMAIN_FOLDERS:
        n_new += link_clips(raw / name, raw / "test", {path.name: path.name for path in clip_paths(raw / name)})
    if n_new:
        print(f"{raw.name}: {n_new} clips of {' and '.join(DOMAIN_FOLDERS)} merged into test", flush=True)


# --- HTTP -------------------------------------------------------------------------------------------------------------


def download(url: str, path: Path) -> None:
    """Fetch a file; resume if an earlier call was stopped. The caller verifies the content."""
    part, failures = _part(path), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        held = _size(part)
        try:
            _fetch_rest(url, part, held)
            break
        except (requests.RequestException, ValueError) as error:
            response = getattr(error, "response", None)
            is_refusal = response is not None and response.status_code not in RETRIED
            failures = failures + 1 if _size(part) <= held else 1
            if is_refusal or failures == TRIES:
                later = "run again later, or give archives you have to tools/data_download.sh with --from_directory"
                advice = "check the address in datasets/catalogue.yaml" if is_refusal else later
                raise InputError(f"{url} cannot be fetched: {_reason(error)}; {advice}") from error
            wait = _retry_after(response) or 2 ** (failures - 1)
            print(f"{url}: {_reason(error)}; next try in {wait:.0f} s", flush=True)
            sleep(wait)
    part.replace(path)


def _fetch_rest(url: str, part: Path, held: int) -> None:
    """Send one request, and append its answer to the `held` bytes received before, or write it from the start."""
    headers = HEADERS | ({"Range": f"bytes={held}-"} if held else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416 and held:  # nothing is left to send
            return
        if not response.ok:
            answer = f"the server answers {response.status_code} {response.reason or ''}".strip()
            raise requests.HTTPError(answer, response=response)
        held = held if response.status_code == 206 else 0
        rest = response.raw.length_remaining
        total = None if rest is None else held + rest
        with Progress(part.stem, total, "B", done=held, scale=True) as shown, part.open("ab" if held else "wb") as file:
            for piece in response.iter_content(CHUNK):
                file.write(piece)
                shown.update(len(piece))


def _read_url(url: str) -> bytes:
    """Return a small file's content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, url.rpartition("/")[2])
        download(url, path)
        return path.read_bytes()


def _remote_size(url: str) -> str:
    """Return a file's size on the server as text, or `size unknown`."""
    with contextlib.suppress(requests.RequestException, KeyError, ValueError):
        response = requests.head(url, headers=HEADERS, timeout=TIMEOUT, allow_redirects=True)
        response.raise_for_status()
        return megabytes(int(response.headers["Content-Length"]))
    return "size unknown"


def _retry_after(response: requests.Response | None) -> float:
    """Return how many seconds a response asks to wait, 0 if it does not say."""
    with contextlib.suppress(InvalidHeader, ValueError, OverflowError):
        if response is not None:
            return Retry(retry_after_max=LONGEST_WAIT).get_retry_after(response.raw) or 0
    return 0


def _reason(error: BaseException) -> str:
    """Return the message of an error's root cause."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def megabytes(n_bytes: float) -> str:
    """Return a number of bytes as text."""
    return f"{n_bytes / 1e6:,.1f} MB"


# --- labels -----------------------------------------------------------------------------------------------------------


def _label(subset: Challenge, folders: dict[str, MachineFolders], path: Path, source: Source) -> None:
    """Get the label list and make each machine type's test_rename."""
    if source.is_dry_run:
        address = source.address(subset.label_list or "")
        print(f"{address} ({_remote_size(address)}) -> {path}", flush=True)
        return
    if source.directory is None:
        labels = fetch_label_list(subset, folders, path, source)
    else:
        given = source.directory / path.name
        if not path.is_file() and not given.is_file():
            print(f"{source.directory} holds no {path.name}: the clips stay unlabelled", flush=True)
            return
        if not path.is_file():
            read_label_list(given, subset.machine_types)
            link_or_copy(given, path)
        labels = read_label_list(path, subset.machine_types)
    for name in folders:
        if name in labels:
            print(label_clips(folders[name], labels[name]), flush=True)


def fetch_label_list(subset: Challenge, folders: dict[str, MachineFolders], path: Path, source: Source) -> LabelList:
    """Return the label list at `path`, fetched if it lacks labels of the clips, and replaced only by a complete one."""
    if subset.label_list is None:
        raise InputError(f"the catalogue has no label list of {subset.name}; give one with --eval_data_list")
    address = source.address(subset.label_list)
    clips = {name: {clip.name for clip in clip_paths(folder.raw / "test")} for name, folder in folders.items()}
    if path.is_file():
        try:
            labels = read_label_list(path, subset.machine_types)
            problem = missing_labels(labels, subset, clips)
        except InputError as error:
            problem = str(error)
        if problem is None:
            return labels
        print(f"{path} is incomplete and is fetched again: {problem}", flush=True)
    content = _read_url(address)
    labels = parse_label_list(content, address, subset.machine_types)
    problem = missing_labels(labels, subset, clips)
    if problem is not None:
        raise InputError(
            f"{address} cannot be used: {problem}; run again later, check the address in datasets/catalogue.yaml, and "
            "move away clips that are not the challenge's"
        )
    with atomic_write(path, "wb") as file:
        file.write(content)
    return labels
