"""The report's page: one HTML file with its pictures in it, for a screen, a phone and paper. No script, no network.

Every text that is put into the page goes through `escape`, which is the only way in: names of files may be anything.
"""

import base64
import html
from dataclasses import dataclass

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; color: #1a1a1a; background: #fff;
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { margin-top: 2.5rem; padding-top: .5rem; border-top: 2px solid #0072b2; font-size: 1.25rem; }
h3 { margin-bottom: .25rem; font-size: 1rem; }
a { color: #005a8c; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: 0; padding: 0; list-style: none; }
nav a { display: inline-block; padding: .4rem 0; }
.scroll { overflow-x: auto; }
.tables { display: flex; flex-wrap: wrap; gap: 0 2rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr));
  gap: 1rem; align-items: start; margin-top: 1rem; }
figure { margin: 0; min-width: 0; }
figure img { display: block; width: 100%; height: auto; }
figure.full, figure.wide { grid-column: 1 / -1; }
figure.full { max-width: 44rem; }
figure.wide img { min-width: 46rem; }
figcaption { font-size: .875rem; color: #444; }
table { margin: .5rem 0; border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
caption { padding: .25rem 0; text-align: left; color: #444; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th[scope=row], thead th:first-child { text-align: left; }
tbody tr.mean > * { border-top: 2px solid #888; font-weight: 600; }
.left-out { padding: .25rem 1rem; border-left: 4px solid #d55e00; background: #fdf3ec; }
@media (max-width: 48rem) {
  th, td { padding: .25rem .4rem; }
  thead th { white-space: normal; }
  figure.wide figcaption::before { content: "(Move the picture sideways to see all of it.) "; }
}
@media print {
  @page { margin: 15mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  .pictures { grid-template-columns: 1fr 1fr; }
  table { font-size: 8pt; }
  th, td { padding: 1pt 3pt; }
  figure.full { max-width: 12cm; }
  figure.wide figcaption::before { content: none; }
  .scroll { overflow: visible; }
  figure.wide img { min-width: 0; }
  figure, table, h2, h3, .left-out { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""


@dataclass(frozen=True)
class Picture:
    """A picture of the report: its file's name without ending, its PNG, and what is said of it in words."""

    name: str
    png: bytes
    caption: str
    alt: str  # what it shows, for who cannot see it
    width: str = "half"  # of the page; full: all of it; wide: all, and to be moved sideways where the page is narrow


@dataclass(frozen=True)
class Chapter:
    """A part of the report."""

    title: str
    sentences: list[str]
    tables: tuple[str, ...] = ()  # of table_html
    pictures: tuple[Picture, ...] = ()


def escape(text: object) -> str:
    """Return text as HTML, that means only itself; bytes of a file's name that are no UTF-8 become a replacement."""
    readable = str(text).encode(errors="surrogateescape").decode(errors="replace")
    return html.escape("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in readable))


def table_html(caption: str, columns: list[str], rows: list[list[str]], n_means: int = 0) -> str:
    """Return a table; the first cell of a row is its name, the last `n_means` rows stand apart."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = []
    for i, (name, *cells) in enumerate(rows):
        kind = ' class="mean"' if i >= len(rows) - n_means else ""
        values = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        body.append(f'<tr{kind}><th scope="row">{escape(name)}</th>{values}</tr>')
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def list_html(items: list[str]) -> str:
    """Return a list of sentences."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def page_html(title: str, introduction: list[str], left_out: list[str], chapters: list[Chapter]) -> str:
    """Return the whole page; `left_out` says in sentences what is not in it and why."""
    links = "".join(f'<li><a href="#part{i}">{escape(part.title)}</a></li>' for i, part in enumerate(chapters))
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        f"<header><h1>{escape(title)}</h1>{_paragraphs(introduction)}</header>",
        f'<nav aria-label="parts of the report"><ul>{links}</ul></nav>',
    ]
    if left_out:
        parts.append(f'<section class="left-out"><h3>What is left out</h3>{list_html(left_out)}</section>')
    parts.append("<main>")
    parts += [_chapter_html(i, chapter) for i, chapter in enumerate(chapters)]
    parts.append("</main>\n</body>\n</html>\n")
    return "\n".join(parts)


def _chapter_html(number: int, chapter: Chapter) -> str:
    text = f'<section id="part{number}"><h2>{escape(chapter.title)}</h2>{_paragraphs(chapter.sentences)}'
    tables = f'<div class="tables">{"".join(chapter.tables)}</div>' if chapter.tables else ""
    pictures = "\n".join(map(_picture_html, chapter.pictures))
    return f'{text}{tables}<div class="pictures">{pictures}</div></section>'


def _picture_html(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(picture.alt)}">'
    if picture.width == "wide":
        image = f'<div class="scroll" tabindex="0">{image}</div>'
    return f'<figure class="{picture.width}">{image}<figcaption>{escape(picture.caption)}</figcaption></figure>'


def _paragraphs(sentences: list[str]) -> str:
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
