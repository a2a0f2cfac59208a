"""The docs say what the program does: the command reference is made from the commands, and links lead somewhere.

`UPDATE_DOCS=1 pytest tests/test_docs.py` rewrites docs/reference/cli.md.
"""

import os
import re
from pathlib import Path
from typing import Any

import typer

from saeray.cli import app

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference" / "cli.md"
HEAD = """# Commands

Made from the commands themselves by `tests/test_docs.py`. Every command exits 0 when done, 1 when it failed and 2 when
it was asked for wrongly; `--store` defaults to `$SAERAY_STORE`; `RAY_ADDRESS` decides where jobs run.
"""


def commands(group: Any, prefix: str = "saeray") -> list[tuple[str, Any]]:
    found = []
    for name, command in sorted(group.commands.items()):
        path = f"{prefix} {name}"
        found += commands(command, path) if hasattr(command, "commands") else [(path, command)]
    return found


def render() -> str:
    parts = [HEAD]
    root = typer.main.get_command(app)
    for path, command in commands(root):
        arguments = " ".join(p.name.upper() for p in command.params if p.param_type_name == "argument")
        parts.append(f"\n## `{path}{' ' + arguments if arguments else ''}`\n\n{(command.help or '').strip()}\n")
        rows = []
        for parameter in command.params:
            name = ", ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.name.upper()
            text = " ".join((getattr(parameter, "help", None) or "").split())
            default = parameter.default if isinstance(parameter.default, str | int | float) else None
            shown = "" if default in (None, False, "") else f"`{default}`"
            if name != "--help":
                rows.append(f"| `{name}` | {text} | {shown} |")
        parts.append("\n| | | default |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def test_command_reference_is_what_the_commands_say() -> None:
    """docs/reference/cli.md names every command, option and default as the program has them."""
    if os.environ.get("UPDATE_DOCS"):
        REFERENCE.write_text(render())
    assert REFERENCE.read_text() == render(), "run UPDATE_DOCS=1 pytest tests/test_docs.py"


def test_every_command_and_option_has_help() -> None:
    """`--help` explains everything that can be said."""
    root = typer.main.get_command(app)
    for path, command in commands(root):
        assert command.help, path
        for parameter in command.params:
            assert getattr(parameter, "help", "x"), f"{path} {parameter.name}"


def test_links_lead_somewhere() -> None:
    """No dead link between the project's own pages."""
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            there = page.parent / target
            assert there.is_dir() or there.read_text().strip(), f"{page.name} links to {target}"


def test_quickstart_commands_exist() -> None:
    """Every `saeray …` line of README and quickstart names a command that is there."""
    root = typer.main.get_command(app)
    known = {path.removeprefix("saeray ").split()[0] for path, _ in commands(root)}
    for page in (ROOT / "README.md", ROOT / "docs" / "quickstart.md"):
        blocks = "\n".join(re.findall(r"```\n(.*?)```", page.read_text(), re.S))
        for command in re.findall(r"^saeray (\S+)", blocks, re.M):
            assert command in known, f"{page.name}: saeray {command}"
