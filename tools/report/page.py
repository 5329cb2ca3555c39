"""The report's page: one HTML file with its pictures in it, for a screen, a phone and paper. No script, no network.

Every text in it goes through jinja2's autoescape: names of files may be anything.
"""

import base64
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pandas import DataFrame

from runtime.command import printable

MEAN = "harmonic mean"  # the row that is set apart


@dataclass(frozen=True)
class Picture:
    """A picture of the report: its file's name without ending, its PNG, its caption, and a description."""

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
    """A part of the report: sentences, tables of text by their caption, pictures, and what is left out and why."""

    title: str
    sentences: list[str] = field(default_factory=list)
    tables: dict[str, DataFrame] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def render(title: str, introduction: list[str], notices: dict[str, list[str]], chapters: list[Chapter]) -> str:
    """Return the page as HTML; `notices` are warnings before the figures, by title."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_as_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    page = environment.get_template("page.html.j2")
    return page.render(title=title, introduction=introduction, notices=notices, chapters=chapters, mean=MEAN)


def capital(sentence: str) -> str:
    """Return a sentence that begins with a capital letter."""
    return sentence[0].upper() + sentence[1:]


def _as_shown(value: object) -> object:
    """Return a text without unprintable characters, or bytes of a name that are not UTF-8."""
    is_text = isinstance(value, str) and not value.isprintable()  # a picture has a hundred thousand characters
    return printable(value) if is_text else value  # type: ignore[arg-type]
