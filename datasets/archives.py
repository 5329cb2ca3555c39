"""Archives of clips: fetched, verified, unpacked as a whole or not at all, and remembered.

An archive's members stand below raw/<machine type>. The folder `.fetched` there belongs to this module: a lock, a
receipt for each archive (its md5, and the files it brought with their sizes), and the folder in which one is unpacked.

A fetch takes the lock, downloads to `downloads` beside raw, verifies, unpacks aside, renames into place, removes what
only the archive's former version had, writes the receipt, removes the archive. Each step can be done again: whenever a
run ends early, the next one goes on from what is there. pooch gives the hash; its Unzip writes into the target itself.
"""

import contextlib
import errno
import glob
import json
import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from common import InputError
from tools.runtime.files import atomic_write, process_lock as exclusive
from datasets.download import check_space, download, megabytes, partial_files, read_url, show_bytes, writing

API_TRIES = 3  # the checksum can do without
MAX_RATIO = 20  # an archive that unpacks to more than this many times its size is no archive of recordings
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, RuntimeError)  # raised by zipfile
ODD_MEMBERS = (errno.EINVAL, errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)  # in a fresh folder


@dataclass(frozen=True)
class Archive:
    """A zip of the catalogue. `md5` is the catalogue's; `api_url` is the record in Zenodo's API, which has one too."""

    url: str
    file: str
    machine_type: str
    md5: str | None = None
    api_url: str | None = None


class _UnfitError(Exception):
    """The archive cannot be used; the message says why."""


class _Places:
    """Where an archive and what belongs to it are."""

    def __init__(self, archive: Archive, raw_folder: Path):
        self.archive = archive
        self.folder = raw_folder / archive.machine_type
        self.fetched = self.folder / ".fetched"
        self.receipt = self.fetched / f"{archive.file}.json"
        self.unpacking = self.fetched / f"{archive.file}.unpacking"
        self.download = raw_folder.parent / "downloads" / archive.file

    def leftovers(self) -> list[Path]:
        """List what a fetch that ended early has left."""
        paths = [self.download, *partial_files(self.download), self.unpacking]
        unfinished = self.download.parent.glob(f".{glob.escape(self.archive.file)}.*.partial")  # of atomic_write
        return [*filter(Path.exists, paths), *unfinished, *self.fetched.glob(".*.partial")]


def fetch_archive(archive: Archive, raw_folder: Path, from_directory: Path | None = None) -> str:
    """See to it that what an archive holds is below `raw_folder`; return a line that says what was done.

    Parameters
    ----------
    raw_folder
        The challenge's `raw`; the archive's members begin with `<machine type>/`.
    from_directory
        A folder with archives that the user has. Nothing is downloaded then, and nothing there is changed.

    Raises
    ------
    InputError
        The archive cannot be had, is not the right one or would do harm, or the disk does not take it.
    """
    places = _Places(archive, raw_folder)
    in_place = f"{archive.machine_type}: {archive.file} is in place"
    if _is_in_place(places) and not places.leftovers():
        return in_place
    given = from_directory and from_directory / archive.file
    if given and not given.is_file() and not _is_in_place(places):
        raise InputError(f"{from_directory} has no {archive.file}; put it there, or leave out --from_directory")
    with exclusive(places.fetched / "lock", f"fetches {places.archive.machine_type}"), writing(raw_folder):
        try:
            done = in_place if _is_in_place(places) else _fetch(places, given)  # another process may have done it
        finally:
            shutil.rmtree(places.unpacking, ignore_errors=True)
        for path in places.leftovers():
            if not (given and given.exists() and path.samefile(given)):
                path.unlink()
    return done


def _fetch(places: _Places, given: Path | None) -> str:
    """Get the archive, verify it, put its files into place; return a line that says so."""
    archive, path = places.archive, given or places.download
    md5, evidence = _known_md5(archive)
    if given is None:
        _download(places, md5)
    elif md5 is None:
        evidence = "no md5 known: zip CRC"
    size = megabytes(path.stat().st_size)
    found = _md5(path)
    try:
        if md5 not in (None, found):
            raise _UnfitError(f"its md5 is {found}, the {evidence} {md5}")
        files = _unpack(path, places)
    except _UnfitError as error:
        if given is not None:
            raise InputError(f"{given} cannot be used: {error}; put the one of {archive.url} there") from error
        path.unlink()
        raise InputError(
            f"{archive.file} of {archive.url} cannot be used and was removed: {error}; run again, and if it ends the "
            "same way, look there whether the file was replaced, and correct datasets/catalogue.yaml"
        ) from error
    _settle(places, {"archive": archive.file, "md5": found, "verified": evidence, "files": files})
    source = f"taken from {given.parent}" if given else "fetched"
    return f"{archive.machine_type}: {archive.file} {source} ({size}, {evidence}), {len(files)} files unpacked"


def _download(places: _Places, md5: str | None) -> None:
    """Download the archive, unless a former run left it whole."""
    if places.download.exists() and md5 not in (None, _md5(places.download)):
        places.download.unlink()
    if not places.download.exists():
        download(places.archive.url, places.download)


# --- verifying --------------------------------------------------------------------------------------------------------


def _known_md5(archive: Archive) -> tuple[str | None, str]:
    """Return the md5 that the archive should have, and what it is verified by."""
    if archive.md5 is not None:
        return archive.md5.lower(), "md5 of the catalogue"
    try:
        files = json.loads(read_url(archive.api_url, API_TRIES))["files"] if archive.api_url else []
        checksums = [file["checksum"] for file in files if file["key"] == archive.file]
        algorithm, _, md5 = checksums[0].partition(":")
    except InputError as error:
        print(f"{archive.file}: no md5 from Zenodo's API ({error})", flush=True)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):  # an answer of another form
        pass
    else:
        if algorithm == "md5":
            return md5.lower(), "md5 of Zenodo's API"
    return None, "no md5 known: size and zip CRC"


def _md5(path: Path) -> str:
    import pooch

    return pooch.file_hash(path, "md5")


# --- unpacking --------------------------------------------------------------------------------------------------------


def _unpack(path: Path, places: _Places) -> dict[str, int]:
    """Unpack aside, each member's CRC verified; return the files' names below the machine type and their sizes."""
    shutil.rmtree(places.unpacking, ignore_errors=True)  # of a run that was killed
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, places.archive.machine_type)
            total = sum(info.file_size for info in members.values())
            if total > MAX_RATIO * path.stat().st_size:
                raise _UnfitError(f"it would unpack to {megabytes(total)}, more than {MAX_RATIO} times its size")
            check_space(places.fetched, total)
            with show_bytes(f"{places.archive.file} unpacking", total) as count:
                for name, info in members.items():
                    _extract(archive, info, places.unpacking / name)
                    count(info.file_size)
    except (*BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno not in ODD_MEMBERS:  # the disk's fault, not the archive's
            raise
        raise _UnfitError(f"it is truncated, damaged or no zip ({str(error) or 'it ends early'})") from error
    return {name: info.file_size for name, info in members.items()}


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """Write one member to a new file; zipfile compares the CRC, but not the size."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as source, target.open("xb") as file:
        shutil.copyfileobj(source, file)
        if file.tell() != info.file_size:
            raise zipfile.BadZipFile(f"{info.filename} is shorter than the archive says")


def _members(archive: zipfile.ZipFile, machine_type: str) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by their names below the machine type; raise _UnfitError for what may do harm.

    What macOS leaves in archives, and any other hidden file, is passed over.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        parts = info.orig_filename.removesuffix("/").split("/")
        if {"", ".", ".."} & set(parts) or any(character in info.orig_filename for character in "\\:\0"):
            raise _UnfitError(f"its member {info.orig_filename!r} is not a plain relative path")
        if parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts):
            continue
        if parts[0] != machine_type or (len(parts) == 1 and not info.is_dir()):
            raise _UnfitError(f"its member {info.filename!r} is not below {machine_type}/")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _UnfitError(f"its member {info.filename!r} is a link or a special file")
        name = "/".join(parts[1:])
        if name in members:
            raise _UnfitError(f"its member {info.filename!r} is there twice")
        if not info.is_dir():
            members[name] = info
    if not members:
        raise _UnfitError("it holds no files")
    return members


# --- putting into place, and remembering ------------------------------------------------------------------------------


def _settle(places: _Places, receipt: dict) -> None:
    """Rename what was unpacked into place, remove what only the former archive brought, write the receipt."""
    files, former = receipt["files"], _read_receipt(places.receipt)["files"]
    _disown(places, files)
    _write_receipt(places.receipt, {"md5": None, "files": former | files})  # a run stopped here leaves none unknown
    _merge(places.unpacking, places.folder)
    for name in former.keys() - files.keys():
        (places.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # where it is not empty
            (places.folder / name).parent.rmdir()
    _write_receipt(places.receipt, receipt)


def _merge(source: Path, target: Path) -> None:
    """Rename what a folder holds into another: whole folders where there is none of that name, else file by file."""
    for path in source.iterdir():
        if path.is_dir() and (target / path.name).is_dir():
            _merge(path, target / path.name)
        else:
            path.replace(target / path.name)


def _disown(places: _Places, files: dict[str, int]) -> None:
    """Take the files that this archive brings out of the other archives' receipts: the last to bring a file owns it."""
    for path in places.fetched.glob("*.json"):
        other = _read_receipt(path)
        if path != places.receipt and other["files"].keys() & files.keys():
            other["files"] = {name: size for name, size in other["files"].items() if name not in files}
            _write_receipt(path, other)


def _is_in_place(places: _Places) -> bool:
    """Tell whether the archive was unpacked, is still the catalogue's, and its files are there with their sizes."""
    receipt = _read_receipt(places.receipt)
    md5 = places.archive.md5
    if receipt["md5"] is None or (md5 is not None and md5.lower() != receipt["md5"]):
        return False
    try:
        return all((places.folder / name).stat().st_size == size for name, size in receipt["files"].items())
    except OSError:
        return False


def _read_receipt(path: Path) -> dict:
    """Return what is remembered of an archive: its files, and its md5, None where it was not finished."""
    try:
        receipt = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(receipt["md5"], str | None) and isinstance(receipt["files"], dict):
            return receipt
    except (OSError, ValueError, KeyError, TypeError):  # whatever is not what _write_receipt writes
        pass
    return {"md5": None, "files": {}}


def _write_receipt(path: Path, receipt: dict) -> None:
    with atomic_write(path) as file:
        json.dump(receipt, file)
