"""The report's pages: HTML with the pictures in it, for a screen, a phone and paper. No script, no network.

Every text goes through jinja2's autoescape: names of files may be anything. Recordings are not in the page: it links to
them, relative to its own place.
"""

import base64
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from pandas import DataFrame
from PIL import Image

from runtime.command import printable

MEAN = "harmonic mean"  # the row that is set apart
NONE = "–"  # an empty cell


@dataclass(frozen=True)
class Picture:
    """A picture of the report: its file's name without ending, its PNG, its caption, and a description."""

    name: str
    png: bytes
    caption: str
    alt: str
    inches: float = 0.0  # its width, if it has the page's width and scrolls where the page is too narrow to read it
    audio: str = ""  # a control that plays the recording

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
    file_name: str = ""  # a part of the pictures' names

    def draw(self, name: str, figure: Figure, caption: str, alt: str, is_wide: bool = False, audio: str = "") -> None:
        """Add a picture, in 256 colours: a third of the size."""
        content = io.BytesIO()
        figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined] # of a FigureCanvasAgg
        Image.fromarray(pixels).convert("RGB").quantize().save(content, "PNG")
        inches = figure.get_size_inches()[0] if is_wide else 0.0
        self.pictures.append(Picture(name, content.getvalue(), caption, alt, inches, audio))


def render(title: str, introduction: list[str], notices: dict[str, list[str]], chapters: list[Chapter]) -> str:
    """Return a page as HTML; `notices` are warnings before the figures, by title."""
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


def relative_url(path: Path, page: Path) -> str:
    """Return the address of a file, relative to a page's."""
    return quote(os.fsencode(os.path.relpath(path, page.parent)))


def audio_control(recording: Path, page: Path) -> str:
    """Return a control of a page that plays a recording, and loads nothing before; "" if it is not on disk."""
    control = Markup('<audio controls preload="none" src="{}" aria-label="{}"></audio>')
    return control.format(relative_url(recording, page), printable(recording.name)) if recording.is_file() else ""


def capital(sentence: str) -> str:
    """Return a sentence that begins with a capital letter."""
    return sentence[0].upper() + sentence[1:]


def _as_shown(value: object) -> object:
    """Return a text without unprintable characters, or bytes of a name that are not UTF-8."""
    is_text = isinstance(value, str) and not value.isprintable()  # a picture has a hundred thousand characters
    return printable(value) if is_text else value  # type: ignore[arg-type]
