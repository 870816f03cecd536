"""Pages that hold viewers with their data, and need neither Python nor a network.

A viewer draws in the browser; what it asks of Python meanwhile is answered by `js/page.js` and, where a click needs a
computation, by the script that the viewer names as its `answers`.
"""

import base64
import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

FILES = Path(__file__).parent / "js"
_IMPORT = re.compile(r'import .* from "\./(\w+)\.js";')
# Nothing may be fetched, from anywhere: what is in the page is all there is.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
{body}
<noscript>The pictures of this page need JavaScript.</noscript>
<script id="l2g-data" type="text/plain">{data}</script>
<script>window.l2gnet = {{ viewers: {{}}, answers: {{}} }};</script>
{scripts}
</body>
</html>
"""


@dataclass(frozen=True)
class Part:
    """A viewer as a page holds it; those that it is linked with are named by their place among the parts."""

    name: str
    script: str
    style: str
    traits: dict[str, Any]
    arrays: dict[str, bytes]
    answers: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    linked: tuple[int, ...] = ()


def shown(place: int) -> str:
    """The element of a page's body in which the part at `place` appears."""
    return f'<div class="l2g-part" data-viewer="{place}"></div>'


def page(title: str, body: str, parts: Sequence[Part]) -> str:
    """A page with viewers in the elements of its body that `shown` makes."""
    styles = dict.fromkeys(["\n" + (FILES / "page.css").read_text(encoding="utf-8"), *(part.style for part in parts)])
    scripts = {part.name: _registered("viewers", part.name, part.script) for part in parts}
    answers = {part.name: _registered("answers", part.name, part.answers) for part in parts if part.answers}
    modules = [*scripts.values(), *answers.values(), joined("page")]
    return _PAGE.format(
        policy=_POLICY,
        title=escape(title),
        style="\n".join(styles),
        body=body,
        data=_packed(parts),
        scripts="\n".join(f'<script type="module">\n{module}\n</script>' for module in modules),
    )


def joined(script: str, seen: list[str] | None = None) -> str:
    """A script with the files it imports put in the place of their import: a module is one text.

    `seen` receives the names of those files.
    """
    seen = [] if seen is None else seen
    lines = []
    for line in (FILES / f"{script}.js").read_text(encoding="utf-8").splitlines():
        imported = _IMPORT.fullmatch(line)
        if imported is None:
            lines.append(line)
        elif imported[1] not in seen:
            seen.append(imported[1])
            lines.append(re.sub("^export ", "", joined(imported[1], seen), flags=re.MULTILINE))
    return "\n".join(lines)


def _registered(kind: str, name: str, module: str) -> str:
    """A module that leaves what it exports where `page.js` finds it: a file that was opened from a disk has no URLs."""
    return re.sub("^export default ", f"window.l2gnet.{kind}.{name} = ", module, flags=re.MULTILINE)


def _packed(parts: Sequence[Part]) -> str:
    """The parts as text: JSON with its length before it and its bytes after it, compressed, in base64."""
    places: dict[bytes, list[int]] = {}
    chunks: list[bytes] = []
    end = 0

    def replaced(value: Any) -> Any:
        nonlocal end
        if isinstance(value, dict):
            return {name: replaced(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [replaced(each) for each in value]
        if not isinstance(value, bytes):
            return value
        if value not in places:
            places[value] = [end, end + len(value)]
            chunks.append(value)
            end += len(value)
        return {"bytes": places[value]}

    held = [{"name": p.name, "traits": p.traits, "arrays": p.arrays, "data": p.data, "linked": p.linked} for p in parts]
    words = json.dumps(replaced(held), allow_nan=False).encode()
    everything = b"".join([len(words).to_bytes(4, "little"), words, *chunks])
    return base64.b64encode(gzip.compress(everything, mtime=0)).decode("ascii")
