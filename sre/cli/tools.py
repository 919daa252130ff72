"""`sre doctor` and `sre tools install`: the programs that are not Python packages."""

from __future__ import annotations

import typer

from sre.cli import output
from sre.cli.output import AsJson
from sre.config import Settings
from sre.errors import ExitCode, MissingProgram

app = typer.Typer(no_args_is_help=True, help="The programs that are not Python packages.")


def doctor(as_json: AsJson = False) -> None:
    """Show each program: version, where it was found, and the remedy when it is missing."""
    from importlib.metadata import PackageNotFoundError, version

    from sre.targets.local.programs import PROGRAMS, find

    settings = Settings()
    rows: list[dict[str, str]] = []
    for program in PROGRAMS:
        row = {"name": program.name, "version": "", "source": "", "path": "", "purpose": program.purpose, "remedy": ""}
        try:
            found = find(program.name, settings.tools)
            row |= {"version": found.version(), "source": found.source, "path": str(found.path)}
        except MissingProgram as error:
            row |= {"source": "missing", "remedy": str(error)}
        rows.append(row)
    for package, purpose in (("torch", "training"), ("locust", "load"), ("chaostoolkit", "faults"), ("mlflow", "registry")):
        row = {"name": package, "version": "", "source": "Python", "path": "", "purpose": purpose, "remedy": ""}
        try:
            row["version"] = version(package)
        except PackageNotFoundError:
            row |= {"source": "missing", "remedy": "run `nox -s gameday` once, which installs the locked packages"}
        rows.append(row)
    missing = [row for row in rows if row["source"] == "missing"]
    if as_json:
        output.document("sre.doctor/1", {"whole": not missing, "programs": rows})
    else:
        output.table(
            ("program", "version", "from", "path or remedy"),
            [(row["name"], row["version"], row["source"], row["path"] or row["remedy"] or row["purpose"]) for row in rows],
        )
    if missing:
        raise typer.Exit(ExitCode.CANNOT_RUN)


@app.command()
def install(as_json: AsJson = False) -> None:
    """Fetch Debian packages of what is missing and unpack them below .tools, without root."""
    from sre.targets.local import tools

    settings = Settings()
    versions = tools.install(settings.tools, output.narrate)
    if as_json:
        output.document("sre.tools/1", {"folder": str(settings.tools), "packages": versions})
    elif versions:
        output.table(("package", "version"), sorted(versions.items()))
