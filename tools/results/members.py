"""The files of a folder or a zip archive, read in one way. Nothing is unpacked, so an archive cannot write anywhere."""

import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common import InputError

from datasets.archives import BROKEN


@dataclass(frozen=True)
class Member:
    """A file of a folder or of an archive."""

    place: Path  # the archive, or the folder's parent
    name: str  # its path there, with `/`; for a folder's file, it begins with the folder's name
    size: int  # in bytes
    problem: str = ""  # why it must not be read; empty if it may
    _zipped: tuple[zipfile.ZipFile, zipfile.ZipInfo] | None = None

    @property
    def folder(self) -> str:
        """The folder's path in `place`; empty at the top of an archive."""
        return self.name.rpartition("/")[0]

    @property
    def file(self) -> str:
        """The file's name."""
        return self.name.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.place}/{self.name}"

    def read_bytes(self) -> bytes:
        """Return the content."""
        if self._zipped is None:
            return Path(str(self)).read_bytes()
        archive, info = self._zipped
        try:
            with archive.open(info) as file:
                return file.read(self.size + 1)  # to the end, so that zipfile checks the CRC
        except BROKEN as error:
            raise _broken(self.place, error) from error


def members(place: Path) -> Iterator[Member]:
    """Yield the files of a folder and its subfolders, or those of an archive."""
    if not place.exists():
        raise InputError(f"there is no {place}; give a folder or a .zip archive")
    yield from _of_folder(place.resolve()) if place.is_dir() else _of_archive(place)


def _of_folder(folder: Path) -> Iterator[Member]:
    for root, folders, names in os.walk(folder, onerror=_fail, followlinks=True):
        real = Path(root).resolve()
        folders[:] = [f for f in folders if Path(root, f).resolve() not in (real, *real.parents)]  # circular links
        for path in (Path(root, name) for name in names):
            is_plain = path.is_file()
            size, problem = (path.stat().st_size, "") if is_plain else (0, "not a plain file")
            yield Member(folder.parent, path.relative_to(folder.parent).as_posix(), size, problem)


def _fail(error: OSError) -> None:
    raise error


def _of_archive(place: Path) -> Iterator[Member]:
    try:
        archive = zipfile.ZipFile(place)
    except BROKEN as error:
        raise _broken(place, error) from error
    for info in archive.infolist():
        name, problem = info.orig_filename, ""
        if info.is_dir():
            continue
        if {"", ".", ".."} & set(name.split("/")) or any(character in name for character in "\\:\0"):
            problem = "not a plain relative path"
        elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            problem = "a link or a special file"
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others have no limit on reading
            problem = "compressed by another method than zip's usual one"
        yield Member(place, name, info.file_size, problem, (archive, info))


def _broken(place: Path, error: BaseException) -> InputError:
    return InputError(
        f"{place} is truncated, damaged, encrypted or not a zip ({error}); give a folder or a .zip archive"
    )
