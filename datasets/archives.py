"""Archives of clips: fetched, verified, unpacked completely or not at all, and recorded in receipts.

An archive's members are below raw/<machine type>. The folder `.fetched` there belongs to this module: a lock, a
receipt for each archive (its md5, and its files with their sizes), and folders in which archives are unpacked.

A fetch takes the lock, downloads to `downloads` beside raw, verifies, unpacks to a temporary folder, renames the files
into place, removes those that only the archive's previous version had, writes the receipt and removes the archive. Each
step can be repeated, so that the next run resumes an interrupted one. pooch computes the hash; its Unzip would write
into the target directly.
"""

import contextlib
import errno
import json
import shutil
import stat
import tempfile
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from common import InputError
from datasets.download import ADVICE, check_space, download, megabytes, partial_files, read_url
from tools.runtime.files import atomic_write, process_lock, writing
from tools.runtime.progress import Progress

API_TRIES = 3  # few, since the checksum is optional
MAX_RATIO = 20  # an archive that unpacks to more times its size is refused
MANY_FILES, SMALL_FILE = 1000, 1000  # so is one of more files, smaller on average (bytes)
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, RuntimeError)  # raised by zipfile
ODD_MEMBERS = (errno.EINVAL, errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)  # from odd names


@dataclass(frozen=True)
class Archive:
    """A zip file, its md5 if the catalogue has it, and its record in Zenodo's API, which also has an md5."""

    url: str
    file: str
    machine_type: str
    md5: str | None = None
    api_url: str | None = None


class _UnusableError(Exception):
    """The archive cannot be used; the message says why."""


class _ArchivePaths:
    """The paths of an archive, its receipt and its temporary files."""

    def __init__(self, archive: Archive, raw_folder: Path):
        self.archive = archive
        self.folder = raw_folder / archive.machine_type
        self.fetched = self.folder / ".fetched"
        self.receipt = self.fetched / f"{archive.file}.json"
        self.download = raw_folder.parent / "downloads" / archive.file

    def leftovers(self) -> list[Path]:
        """List the temporary files of interrupted fetches; while the lock is held, nobody else uses them."""
        paths = [path for path in (self.download, *partial_files(self.download)) if path.exists() or path.is_symlink()]
        return [*paths, *self.fetched.glob("*.unpacking"), *self.fetched.glob(".*.partial")]


def fetch_archive(archive: Archive, raw_folder: Path, from_directory: Path | None = None) -> str:
    """Install an archive's files below `raw_folder` unless they are in place; return a line that reports it.

    Parameters
    ----------
    raw_folder
        The challenge's `raw`; the archive's members begin with `<machine type>/`.
    from_directory
        The user's folder of archives, which stays unchanged; nothing is downloaded then.
    """
    paths = _ArchivePaths(archive, raw_folder)
    in_place = f"{archive.machine_type}: {archive.file} is in place"
    if _is_in_place(paths) and not paths.leftovers():
        return in_place
    given = from_directory and from_directory / archive.file
    if given and not given.is_file() and not _is_in_place(paths):
        if not given.parent.is_dir():
            raise InputError(f"there is no folder {given.parent}; correct --from_directory, or leave it out")
        raise InputError(f"{given.parent} has no {archive.file}; put it there, or leave out --from_directory")
    lock = process_lock(paths.fetched / "lock", f"fetches {archive.machine_type}")
    with lock, writing(raw_folder, ADVICE, "read or write below"):
        done = in_place if _is_in_place(paths) else _fetch(paths, given)  # another process may have done it
        for path in paths.leftovers():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif not (given and given.exists() and path.exists() and path.samefile(given)):
                path.unlink()
    return done


def _fetch(paths: _ArchivePaths, given: Path | None) -> str:
    """Get the archive, verify it and install its files; return a line that reports it."""
    archive, path = paths.archive, given or paths.download
    md5, evidence = _known_md5(archive if given is None else replace(archive, api_url=None))
    if given is None:
        if not (path.is_file() and md5 in (None, _md5(path))):  # else an earlier run downloaded all of it
            path.unlink(missing_ok=True)
            download(archive.url, path)
    elif md5 is None:
        evidence = "no md5 known: zip CRC"
    size, found = megabytes(path.stat().st_size), _md5(path)
    try:
        if md5 not in (None, found):
            raise _UnusableError(f"its md5 is {found}, but {evidence.removeprefix('md5 of ')} has {md5}")
        with tempfile.TemporaryDirectory(prefix=f"{archive.file}.", suffix=".unpacking", dir=paths.fetched) as folder:
            files = _unpack(path, paths, Path(folder))
            receipt = {"archive": archive.file, "md5": found, "verified": evidence, "files": files}
            _install(Path(folder), paths, receipt)
    except _UnusableError as error:
        if given is not None:
            raise InputError(f"{given} cannot be used: {error}; replace it with {archive.url}") from error
        path.unlink()
        raise InputError(
            f"{archive.file} from {archive.url} cannot be used and was removed: {error}; run again; if it fails "
            "again, check whether the file at that address was replaced, and correct datasets/catalogue.yaml"
        ) from error
    source = f"taken from {given.parent}" if given else "fetched"
    return f"{archive.machine_type}: {archive.file} {source} ({size}, {evidence}), {len(files)} files unpacked"


# --- verifying --------------------------------------------------------------------------------------------------------


def _known_md5(archive: Archive) -> tuple[str | None, str]:
    """Return the expected md5 (None if unknown) and how the archive is verified."""
    if archive.md5 is not None:
        return archive.md5.lower(), "md5 of the catalogue"
    try:
        files = json.loads(read_url(archive.api_url, API_TRIES))["files"] if archive.api_url else []
        checksums = [file["checksum"] for file in files if file["key"] == archive.file]
        algorithm, _, md5 = checksums[0].partition(":")
    except InputError as error:
        print(f"{archive.file}: no md5 from Zenodo's API ({error})", flush=True)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):  # an unexpected response
        pass
    else:
        if algorithm == "md5":
            return md5.lower(), "md5 of Zenodo's API"
    return None, "no md5 known: size and zip CRC"


def _md5(path: Path) -> str:
    import pooch

    return pooch.file_hash(path, "md5")


# --- unpacking --------------------------------------------------------------------------------------------------------


def _unpack(path: Path, paths: _ArchivePaths, folder: Path) -> dict[str, int]:
    """Unpack into a folder and verify the CRCs; return each file's name below the machine type and its size."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, paths.archive.machine_type)
            total = sum(info.file_size for info in members.values())
            if total > MAX_RATIO * path.stat().st_size:
                raise _UnusableError(f"it would unpack to {megabytes(total)}, more than {MAX_RATIO} times its size")
            if len(members) > MANY_FILES and total < SMALL_FILE * len(members):
                raise _UnusableError(
                    f"it holds {len(members)} files of {megabytes(total)} in total, too small for clips"
                )
            check_space(paths.fetched, total)
            with Progress(f"{paths.archive.file} unpacking", total, "B", scale=True) as shown:
                for name, info in members.items():
                    _extract(archive, info, folder / name)
                    shown.update(info.file_size)
    except (*BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno not in ODD_MEMBERS:  # the disk's fault, not the archive's
            raise
        raise _UnusableError(f"it is truncated, damaged or not a zip file ({str(error) or 'it ends early'})") from error
    return {name: info.file_size for name, info in members.items()}


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """Write one member to a new file; zipfile checks the CRC, but not the size."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as source, target.open("xb") as file:
        shutil.copyfileobj(source, file)
        if file.tell() != info.file_size:
            raise zipfile.BadZipFile(f"{info.filename} is shorter than the archive says")


def _members(archive: zipfile.ZipFile, machine_type: str) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by their names below the machine type; _UnusableError if one is unsafe.

    Hidden files, and those that macOS adds to archives, are skipped.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        parts = info.orig_filename.removesuffix("/").split("/")
        if not _is_relative(info.orig_filename.removesuffix("/")):
            raise _UnusableError(f"its member {info.orig_filename!r} is not a plain relative path")
        if parts[0] == "__MACOSX" or not _is_visible("/".join(parts)):
            continue
        if parts[0] != machine_type or (len(parts) == 1 and not info.is_dir()):
            raise _UnusableError(f"its member {info.filename!r} is not below {machine_type}/")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _UnusableError(f"its member {info.filename!r} is a link or a special file")
        name = "/".join(parts[1:])
        if name in members:
            raise _UnusableError(f"its member {info.filename!r} occurs twice")
        if not info.is_dir():
            members[name] = info
    if not members:
        raise _UnusableError("it holds no files")
    return members


def _is_relative(name: str) -> bool:
    """Return whether a name is a plain relative path on every system, and printable."""
    return not {"", ".", ".."} & set(name.split("/")) and name.isprintable() and not {"\\", ":"} & set(name)


# --- installing and recording -----------------------------------------------------------------------------------------


def _install(folder: Path, paths: _ArchivePaths, receipt: dict) -> None:
    """Rename the unpacked files into place, remove those that only the previous version had, write the receipt."""
    files, previous = receipt["files"], _read_receipt(paths.receipt)["files"]
    _claim(paths, files)
    _write_receipt(paths.receipt, {"md5": None, "files": previous | files})  # for a run that is stopped here
    _merge(folder, paths.folder)
    for name in previous.keys() - files.keys():
        path = paths.folder / name
        with contextlib.suppress(OSError):  # a name too long, or a folder not empty
            if path.parent.resolve().is_relative_to(paths.folder.resolve()):  # else a link leads outside
                path.unlink(missing_ok=True)
                path.parent.rmdir()
    _write_receipt(paths.receipt, receipt)


def _merge(source: Path, target: Path) -> None:
    """Move a folder's content into another: whole folders where the name is free, else file by file."""
    for path in source.iterdir():
        if path.is_dir() and (target / path.name).is_dir():
            _merge(path, target / path.name)
        else:
            path.replace(target / path.name)


def _claim(paths: _ArchivePaths, files: dict[str, int]) -> None:
    """Remove this archive's files from the other archives' receipts: a file belongs to the last one to install it."""
    for path in paths.fetched.glob("*.json"):
        other = _read_receipt(path)
        if path != paths.receipt and other["files"].keys() & files.keys():
            other["files"] = {name: size for name, size in other["files"].items() if name not in files}
            _write_receipt(path, other)


def _is_in_place(paths: _ArchivePaths) -> bool:
    """Return whether the archive was unpacked and is still the catalogue's, and its files have their sizes."""
    receipt = _read_receipt(paths.receipt)
    md5 = paths.archive.md5
    if receipt["md5"] is None or (md5 is not None and md5.lower() != receipt["md5"]):
        return False
    try:
        return all((paths.folder / name).stat().st_size == size for name, size in receipt["files"].items())
    except OSError:
        return False


def _read_receipt(path: Path) -> dict:
    """Return an installed archive's files and its md5 (None if installing was interrupted).

    A receipt that _write_receipt could not have written is ignored: its names could lead outside the folder.
    """
    try:
        receipt = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        files = receipt["files"]
        is_sound = all(type(size) is int and _is_visible(name) for name, size in files.items())
        if isinstance(receipt["md5"], str | None) and is_sound:
            return receipt
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return {"md5": None, "files": {}}


def _is_visible(name: str) -> bool:
    """Return whether _members accepts a name."""
    return _is_relative(name) and not any(part.startswith(".") for part in name.split("/"))


def _write_receipt(path: Path, receipt: dict) -> None:
    with atomic_write(path) as file:
        json.dump(receipt, file)
