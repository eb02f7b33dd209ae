"""A gradient check as one self-contained page of HTML."""

import base64
import html
from pathlib import Path

from minigpt.files import write_atomically

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #222; background: #fff }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100% }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .6rem; text-align: right; white-space: nowrap }
th { background: #fff; position: sticky; top: 0 }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) {
  text-align: left; font-family: ui-monospace, monospace }
tr.wrong td { background: #fbe3e0 }
.verdict { border-left: .4rem solid #009e73; padding: .5rem 1rem; background: #f4f4f4 }
.verdict.wrong { border-color: #d55e00 }
img { max-width: 100% }
"""


def html_page(report, title, picture=None):
    """The page as text: verdict, table and, where given, a picture.

    report: a gradcheck.Report; title: text; picture: bytes of a PNG. Nothing is loaded from
    elsewhere, so the page can be sent or kept as it is.
    """
    heading, *rows = report.table()
    lines = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    body = "\n".join(f"<tr{'' if row[-1] == 'ok' else ' class=wrong'}>{line}</tr>" for row, line in zip(rows, lines))
    image = ""
    if picture:
        source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        image = f'<p><img alt="error against step size" src="{source}"></p>'
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title><style>{STYLE}</style></head>
<body>
<h1>{html.escape(title)}</h1>
<p class="verdict{"" if report.passed else " wrong"}">{html.escape(report.summary)}</p>
<p>Each parameter's gradient, computed by the handwritten backward pass, against a numeric derivative in
float64: the complex step Im f(x + ih) / h with h = 1e-30, which loses no digits, and the central difference
(f(x + h) - f(x - h)) / 2h with h = 1e-5, which does. An error is the largest difference over the parameter's
largest gradient, or over a thousandth of the model's largest where that is larger.</p>
{image}
<table>
<thead><tr>{"".join(f"<th>{html.escape(cell)}</th>" for cell in heading)}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</body>
</html>
"""


def write_html(path, report, title, picture=None):
    """Write html_page to a file, whole or not at all."""
    write_atomically(Path(path), html_page(report, title, picture))
