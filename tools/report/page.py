"""The report's page: one HTML file with its pictures in it, for a screen, a phone and paper. No script, no network.

Every text in it goes through jinja2's autoescape: names of files may be anything.
"""

import base64
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pandas import DataFrame

MEAN = "harmonic mean"  # names the row that stands apart


@dataclass(frozen=True)
class Picture:
    """A picture of the report: its file's name without ending, its PNG, its caption, and what it shows in words."""

    name: str
    png: bytes
    caption: str
    alt: str
    inches: float = 0.0  # its width, if it has the page's width and scrolls where the page is too narrow to read it

    @property
    def data(self) -> str:
        """The PNG in base64."""
        return base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True)
class Chapter:
    """A part of the report: sentences, tables of text by their caption, pictures."""

    title: str
    sentences: list[str] = field(default_factory=list)
    tables: dict[str, DataFrame] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)


def render(title: str, introduction: list[str], notices: dict[str, list[str]], chapters: list[Chapter]) -> str:
    """Return the page as HTML; `notices` is what readers must know before they believe the figures, by title."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    page = environment.get_template("page.html.j2")
    return page.render(title=title, introduction=introduction, notices=notices, chapters=chapters, mean=MEAN)


def printable(value: object) -> object:
    """Return text in which unprintable characters, and bytes of a name that are not UTF-8, are replaced."""
    if not isinstance(value, str):
        return value
    if value.isprintable():  # a picture has a hundred thousand characters
        return value
    readable = value.encode(errors="surrogateescape").decode(errors="replace")
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in readable)
