"""Verbs about the installation and the config."""

from __future__ import annotations

import typer

from pipeline.commands.options import (
    PIPELINE_FILE,
    Assignments,
    File,
    Json,
    config_app,
    examples,
    give,
    read,
    say,
    verb,
)


@verb("touchstone doctor", "touchstone doctor --json")
def doctor(file: File = PIPELINE_FILE, json: Json = False) -> None:
    """Check the installation, the config, its sources and the disk, and say how to mend what is wrong."""
    from pipeline.commands.doctor import examine

    findings = examine(file)
    if json:
        give(findings)
    else:
        for finding in findings:
            mark = "ok  " if finding["ok"] else "FAIL"
            say(
                f"note  {finding['found']}" if finding.get("note") else f"{mark}  {finding['what']}: {finding['found']}"
            )
    raise typer.Exit(0 if all(finding["ok"] for finding in findings) else 1)


@config_app.command("show", epilog=examples("touchstone config show", "touchstone config show --set seed=7 --json"))
def config_show(file: File = PIPELINE_FILE, assignments: Assignments = None, json: Json = False) -> None:
    """The resolved config: every node of every matrix, every default."""
    from pipeline.yaml_text import dump

    data = read(file, assignments).resolved()
    give(data) if json else say(*dump(data).rstrip().split("\n"))


@config_app.command("schema", epilog=examples("touchstone config schema", "touchstone config schema > schema.json"))
def config_schema() -> None:
    """JSON Schema of pipeline.yaml, for completion and checks in an editor."""
    from pipeline.declaring.schema import json_schema

    give(json_schema())


@config_app.command("stages", epilog=examples("touchstone config stages", "touchstone config stages > docs/stages.md"))
def config_stages() -> None:
    """Reference of all stages and their settings, as Markdown."""
    from pipeline.declaring.schema import stages_markdown

    say(*stages_markdown().split("\n"))
