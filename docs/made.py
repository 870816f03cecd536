"""What the site takes from the library: commands, settings, scores and the rooms, so that no page repeats them."""

import ast
import contextlib
import dataclasses
import inspect
import io
import os
import re
import typing
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

ROOT = Path(__file__).parents[1]
UNITS = {"_mm": "mm", "_ml": "ml", "_px": "pixels"}


def commands() -> str:
    """Each verb of the command, and what its own help says."""
    from l2gnet.cli.main import VERBS

    os.environ |= {"COLUMNS": "88", "NO_COLOR": "1"}  # no terminal says how wide it is
    parts = []
    for words in _verbs(VERBS.verbs):
        with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
            VERBS.run([*words, "--help"], "l2gnet")
        parts.append(f"## {' '.join(words)}\n\n```text\n{shown.getvalue().strip()}\n```")
    return "\n\n".join(parts)


def _verbs(verbs: typing.Any, *above: str) -> Iterator[tuple[str, ...]]:
    from l2gnet.cli.group import Group

    for name, verb in verbs.items():
        if isinstance(verb, Group):
            yield from _verbs(verb.verbs, *above, name)
        else:
            yield (*above, name)


def settings() -> str:
    """A table for each part of the settings of a training."""
    from l2gnet.training.settings import PARTS

    return "\n\n".join(
        f"## {part.__name__.removesuffix('Settings')}\n\n{part.__doc__}\n\n{_table(part)}" for part in PARTS
    )


def scores() -> str:
    """A table of what is said of a structure of a case."""
    from l2gnet.evaluation.metrics import StructureScore

    return _table(StructureScore)


def _table(cls: type) -> str:
    """The fields of a dataclass: name, unit, type or choices, default, and the comment in its line."""
    types, notes = typing.get_type_hints(cls), _comments(cls)
    rows = ["| name | unit | type | default | what it is |", "|---|---|---|---|---|"]
    for field in dataclasses.fields(cls):
        kind = types[field.name]
        choices = ", ".join(f"`{choice}`" for choice in typing.get_args(kind)) or kind.__name__
        unit = next((unit for end, unit in UNITS.items() if field.name.endswith(end)), "")
        default = "" if field.default is dataclasses.MISSING else f"`{field.default!r}`"
        rows.append(f"| `{field.name}` | {unit} | {choices} | {default} | {notes.get(field.name, '')} |")
    return "\n".join(rows)


def _comments(cls: type) -> dict[str, str]:
    found = re.findall(r"^    (\w+): [^#\n]+  # (.+)$", inspect.getsource(cls), re.MULTILINE)
    return {name: comment.replace("|", r"\|") for name, comment in found}


def room(name: str) -> str:
    """The public names of each file of a room; of the ground, of those beside the rooms."""
    folder = ROOT / "widgets" if name == "widgets" else ROOT / "l2gnet" / name
    files = sorted(folder.glob("*.py") if name == "." else folder.rglob("*.py"))
    parts = []
    for file in files:
        below = file.relative_to(folder).with_suffix("").parts
        module = ".".join(["l2gnet", *[name] * (name != "."), *below]).removesuffix(".__init__")
        if not any(part.startswith("__") for part in module.split(".")):
            members = "   :members:\n" * _has_public(file)
            parts.append(f"## {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n{members}```")
    return "\n\n".join(parts)


def _has_public(file: Path) -> bool:
    defined = (node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef | ast.ClassDef))
    return any(not node.name.startswith("_") for node in defined)


class Made(SphinxDirective):
    """What a function of this file says, in Markdown: its name, and its argument if it has one."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Read it as a part of the page."""
        self.env.note_reread()  # the library may have changed, whatever the page
        name, *argument = self.arguments
        text = {"commands": commands, "settings": settings, "scores": scores, "room": room}[name](*argument)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def as_fields(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Make the sections "Args:" and "Raises:" of a docstring lists of fields, as reStructuredText has them."""
    out: list[str] = []
    field = ""
    for line in lines:
        if line in ("Args:", "Raises:"):
            field = {"Args:": "param", "Raises:": "raises"}[line]
            continue
        if field and line.strip() and not line.startswith(" "):
            field = ""
        start = re.fullmatch(r"    (\w+): (.*)", line) if field else None
        out.append(f":{field} {start[1]}: {start[2]}" if start else line)
    lines[:] = re.sub(r":\n\n(?=    )", "::\n\n", "\n".join(out)).split("\n")  # what is set in is an example


def by_short_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Element | None:
    """Find what a docstring calls by its name alone, as "ConfigError"."""
    if node["refdomain"] != "py":
        return None
    objects = env.domains["py"].data["objects"]
    found = [name for name in objects if name.rpartition(".")[2] == node["reftarget"]]
    if len(found) != 1:
        return None
    entry = objects[found[0]]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content)


def with_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the contents of the site below the front page, which is a file that others read, too."""
    if docname == app.config.root_doc:
        source[0] += "\n\n" + (ROOT / "docs/contents.txt").read_text()


def as_index(app: Sphinx, error: Exception | None) -> None:
    """Give the front page the name that browsers look for."""
    if error is None:
        front = Path(app.outdir, f"{app.config.root_doc}.html")
        Path(app.outdir, "index.html").write_text(front.read_text())


def draw_math(translator: typing.Any, node: nodes.math | nodes.math_block) -> None:
    """Write TeX as MathML, which browsers draw themselves."""
    block = isinstance(node, nodes.math_block)
    text = node.astext().replace(r"\dots", r"\ldots")
    text = re.sub(r"\\([Bb]ig)([()|\[\]])", r"\\\1l\2", text)
    text = re.sub(r"(\\t?frac)(\d)(\d)", r"\1{\2}{\3}", text)
    text = re.sub(r"\\log (?=\w)", r"\\,\\log\\, ", text)
    drawn = latex2mathml.tex2mathml(text, as_block=block)
    translator.body.append(re.sub("<mo>(?=[⟨⟩])", '<mo stretchy="false">', drawn))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of all this."""
    app.add_directive("made", Made)
    app.add_html_math_renderer("mathml", (draw_math, None), (draw_math, None))
    app.connect("source-read", with_contents)
    app.connect("autodoc-process-docstring", as_fields)
    app.connect("missing-reference", by_short_name)
    app.connect("build-finished", as_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
