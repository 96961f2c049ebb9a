"""Configuration of the documentation site; `make docs` builds it."""

import base64
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import typer

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "src"))

import stavis  # noqa: E402
from stavis.cli import app as commands  # noqa: E402

project = "stavis"
author = "The stavis authors"
smartquotes = False  # "--" in help texts is no dash
release = stavis.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_title = f"stavis {release}"
html_show_copyright = False
html_copy_source = False
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_use_ivar = True  # otherwise the attributes of named tuples are described twice
suppress_warnings = ["myst.header"]  # a page may open with a deeper heading

MODULES = ("clips", "gaze", "maps", "media", "metrics", "weights")
OUTSIDE = {  # files outside docs/ that pages link to, and the pages made from them
    "../src/stavis/weights/default/MODEL_CARD.md": "reference/model-card.md",
    "../examples/quickstart.ipynb": "reference/quickstart.md",
}


def write_api_reference() -> None:
    """Writes reference/api.md: the public names of the package and of its public modules."""
    functions = [name for name in stavis.__all__ if inspect.isfunction(getattr(stavis, name))]
    classes = [name for name in stavis.__all__ if inspect.isclass(getattr(stavis, name))]
    lines = [
        "# Python reference",
        "",
        "Names are imported on first use, so `import stavis` loads no PyTorch.",
    ]
    for title, names, directive in (
        ("Functions", functions, "autofunction"),
        ("Classes", classes, "autoclass"),
    ):
        lines += ["", f"## {title}", ""]
        for name in names:
            lines += ["```{eval-rst}", f".. {directive}:: stavis.{name}"]
            lines += ["   :members:"] if directive == "autoclass" and name != "STAViS" else []
            lines += ["```", ""]
    for module in MODULES:
        public = sorted(name for name in vars(getattr(stavis, module)) if not name.startswith("_"))
        lines += [f"## stavis.{module}", "", (getattr(stavis, module).__doc__ or "").strip(), ""]
        for name in public:
            value = getattr(getattr(stavis, module), name)
            own = getattr(value, "__module__", "").startswith("stavis")  # not so of aliases of types
            if name in stavis.__all__ or not own or not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            kind = "autoclass" if inspect.isclass(value) else "autofunction"
            lines += ["```{eval-rst}", f".. {kind}:: stavis.{module}.{name}", "```", ""]
    write("reference/api.md", lines)


def write_command_reference() -> None:
    """Writes reference/commands.md from the commands themselves."""
    group = typer.main.get_command(commands)
    lines = ["# Command reference", "", (group.help or "").strip(), ""]
    context: Any = typer.Context(group, info_name="stavis")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            inner: Any = typer.Context(command, info_name=name, parent=context)
            for sub in command.list_commands(inner):
                lines += describe_command(f"stavis {name} {sub}", command.get_command(inner, sub), inner)
        else:
            lines += describe_command(f"stavis {name}", command, context)
    write("reference/commands.md", lines)


def describe_command(name: str, command: Any, parent: Any) -> list[str]:
    """The section of one command: its help, its usage, a table of its arguments and options."""
    context: Any = typer.Context(command, info_name=name.rpartition(" ")[2], parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## {name}", "", inspect.cleandoc(command.help or ""), "", f"    {name} {usage}", ""]
    lines += ["| argument or option | meaning |", "|---|---|"]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or "--help" in parameter.opts:
            continue
        names, text = (part.replace("|", "\\|").replace("\n", " ") for part in record)
        names = re.sub(r" <list\[\w+\]>", " ...", names)
        text = text.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
        text = re.sub(r"docs/([a-z-]+)\.md", r"[](../\1.md)", text)
        lines.append(f"| `{names}` | {text} |")
    return [*lines, ""]


def write_model_card() -> None:
    """Writes reference/model-card.md: the card of the default weights."""
    card = DOCS.parent / "src/stavis/weights/default/MODEL_CARD.md"
    write("reference/model-card.md", card.read_text(encoding="utf-8").splitlines())


def write_notebook(name: str) -> None:
    """Writes reference/NAME.md from examples/NAME.ipynb: text, code, and the outputs that are stored in it."""
    notebook = json.loads((DOCS.parent / "examples" / f"{name}.ipynb").read_text(encoding="utf-8"))
    lines = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            lines += [source.replace("](../docs/", "](../"), ""]
            continue
        lines += ["```python", source, "```", ""]
        for number, output in enumerate(cell["outputs"]):
            data = {kind: "".join(value) for kind, value in output.get("data", {}).items()}
            if "text/html" in data:
                lines += ["```{raw} html", data["text/html"], "```", ""]
            elif "image/jpeg" in data:
                picture = DOCS / "reference" / f"{name}_{cell['id']}_{number}.jpg"
                picture.parent.mkdir(exist_ok=True)
                picture.write_bytes(base64.b64decode(data["image/jpeg"]))
                lines += [f"![Output of the cell above]({picture.name})", ""]
            else:
                lines += [
                    "```text",
                    data.get("text/plain", "".join(output.get("text", ""))).rstrip(),
                    "```",
                    "",
                ]
    write(f"reference/{name}.md", lines)


def link_inside(app: Any, page: str, source: list[str]) -> None:
    """Turns links to files outside docs/, which work on a code host, into links to the pages made from them."""
    for file, made in OUTSIDE.items():
        source[0] = source[0].replace(f"]({file})", f"]({made})")
    # A page's title instead of its file's name, for which the text of a link is left empty.
    source[0] = re.sub(r"\[([a-z-]+\.md)\]\(\1", r"[](\1", source[0])


def write(name: str, lines: list[str]) -> None:
    """Writes a generated page unless it is the same already, so that a rebuild has less to do."""
    path = DOCS / name
    text = "\n".join(lines).rstrip() + "\n"
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Any) -> None:
    """Generates the reference pages before Sphinx looks for pages."""
    write_api_reference()
    write_command_reference()
    write_model_card()
    write_notebook("quickstart")
    app.connect("source-read", link_inside)
