"""`sre`: the table of contents. Each command lives in a sibling and imports what it needs when it runs."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer
from pydantic import ValidationError

from sre.cli import ab, backup, canary, drills, evidence, output, rebuild, slo, system, tools
from sre.config import Settings
from sre.errors import ExitCode, SreError, UsageError

_CODES = "  \n".join(f"**{code.value}** {code.meaning}" for code in ExitCode)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Prove every promise of the production ML system, on the running system, with evidence.",
    epilog=f"Exit codes:  \n{_CODES}",
)
app.command()(system.up)
app.command()(system.attach)
app.command()(system.down)
app.command()(system.status)
app.command()(drills.drill)
app.command()(drills.gameday)
app.command()(evidence.report)
app.command()(evidence.history)
app.command()(evidence.verify)
app.command()(evidence.undo)
app.command()(rebuild.rebuild)
app.command()(ab.ab)
app.command()(tools.doctor)
app.add_typer(backup.app, name="backup")
app.add_typer(canary.app, name="canary")
app.add_typer(slo.app, name="slo")
app.add_typer(tools.app, name="tools")


def _fail(error: SreError) -> NoReturn:
    output.fail(error, as_json="--json" in sys.argv)
    sys.exit(error.exit_code)


def main() -> NoReturn:
    """Run a command. What the toolkit raises on purpose ends with its message and its exit code."""
    try:
        app()
    except SreError as error:
        _fail(error)
    except ValidationError as error:
        if error.title != Settings.__name__:
            raise
        wrong = "; ".join(f"SRE_{str(item['loc'][0]).upper()} is {item['input']!r}: {item['msg']}" for item in error.errors())
        _fail(UsageError(f"{wrong}; correct it or unset it"))
    except KeyboardInterrupt:
        output.narrate("interrupted")
        sys.exit(ExitCode.INTERRUPTED)
    sys.exit(ExitCode.KEPT)


if __name__ == "__main__":
    main()
