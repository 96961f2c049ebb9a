"""Configuration of the documentation site; `make docs` builds it."""

import inspect
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
project_copyright = ""
smartquotes = False  # "--" in help texts is no dash
release = stavis.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"stavis {release}"
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_use_ivar = True  # otherwise the attributes of named tuples are described twice
suppress_warnings = ["myst.header"]  # a page may open with a deeper heading

MODULES = ("clips", "gaze", "maps", "media", "metrics", "weights")


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
        public = getattr(getattr(stavis, module), "__all__", [])
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
        text = text.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
        lines.append(f"| `{names}` | {text} |")
    return [*lines, ""]


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
