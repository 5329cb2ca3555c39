"""Zip archives of clips, unpacked into their machine type's folder so that each file is complete or absent."""

import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from runtime.progress import progress

UNPACKING = ".unpacking"  # in the machine type's folder; a killed run leaves it
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, RuntimeError)  # raised by zipfile


def unpack(path: Path, folder: Path) -> int:
    """Unpack an archive's files below `<folder's name>/` into a folder; return their number.

    Other members, and hidden files such as those that macOS adds, are skipped. An archive that cannot be used raises
    one of BROKEN. Files are unpacked beside their final places and then renamed.
    """
    temporary = folder / UNPACKING
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if _is_wanted(info, folder.name)]
            if not members:
                raise zipfile.BadZipFile(f"no files below {folder.name}/")
            for info in progress(members, len(members), f"{path.name} unpacking", "files"):
                archive.extract(info, temporary)
        move_files(temporary / folder.name, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(members)


def _is_wanted(info: zipfile.ZipInfo, machine_type: str) -> bool:
    top, *parts = info.filename.split("/")
    if ".." in (top, *parts) or stat.S_ISLNK(info.external_attr >> 16):
        raise zipfile.BadZipFile(f"its member {info.filename!r} is a link, or has '..' in its path")
    return top == machine_type and not info.is_dir() and not any(part.startswith(".") for part in parts)


def move_files(source: Path, target: Path) -> None:
    """Move a folder's content into another: whole folders where the name is free, else file by file.

    In the order of names, train and test come last: if they are there, so is everything else.
    """
    for path in sorted(source.iterdir()):
        if path.is_dir() and (target / path.name).is_dir():
            move_files(path, target / path.name)
        else:
            path.replace(target / path.name)
