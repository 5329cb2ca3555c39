"""Archives of clips: zip files whose members are unpacked into their machine type's folder, each one whole."""

import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from runtime.progress import Progress

UNPACKING = ".unpacking"  # in the machine type's folder; a killed run leaves it
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, RuntimeError)  # raised by zipfile


@dataclass(frozen=True)
class Archive:
    """A zip file, its md5 if the catalogue has it, and its record in Zenodo's API, which also has an md5."""

    url: str
    file: str
    machine_type: str
    md5: str | None
    api_url: str


class UnusableError(Exception):
    """An archive cannot be used; the message says why."""


def unpack(path: Path, folder: Path) -> int:
    """Unpack an archive's members, `<folder's name>/...`, into a folder; return the number of files.

    They are unpacked beside their final places and renamed, so that a name always stands for a whole file.
    """
    temporary = folder / UNPACKING
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, folder.name)
            with Progress(f"{path.name} unpacking", sum(info.file_size for info in members), "B", scale=True) as shown:
                for info in members:
                    archive.extract(info, temporary)
                    shown.update(info.file_size)
        _move(temporary / folder.name, folder)
    except BROKEN as error:
        raise UnusableError(f"it is truncated, damaged or not a zip file ({error or 'it ends early'})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(members)


def _members(archive: zipfile.ZipFile, machine_type: str) -> list[zipfile.ZipInfo]:
    """List an archive's files, without hidden ones and those that macOS adds; one outside the folder is refused."""
    members = []
    for info in archive.infolist():
        parts = info.filename.split("/")
        if ".." in parts or stat.S_ISLNK(info.external_attr >> 16):
            raise UnusableError(f"its member {info.filename!r} is a link, or has '..' in its path")
        if parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts):
            continue
        if parts[0] != machine_type:
            raise UnusableError(f"its member {info.filename!r} is not below {machine_type}/")
        if not info.is_dir():
            members.append(info)
    if not members:
        raise UnusableError("it holds no files")
    return members


def _move(source: Path, target: Path) -> None:
    """Move a folder's content into another: whole folders where the name is free, else file by file.

    In the order of names, train and test come last: if they are there, so is everything else.
    """
    for path in sorted(source.iterdir()):
        if path.is_dir() and (target / path.name).is_dir():
            _move(path, target / path.name)
        else:
            path.replace(target / path.name)
