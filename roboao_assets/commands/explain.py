"""`roboao explain`: which pipelines run on an observation, and which rules say so."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from roboao_assets.commands.terminal import archive_paths, console, print_table, stop
from roboao_assets.storage.settings import Settings, load_settings

if TYPE_CHECKING:
    from roboao_assets.pipelines.decisions import Decision
    from roboao_assets.storage.decisions import Judgement

app = typer.Typer()

_STYLES = {"runs": "green", "by request": "cyan", "does not run": "yellow", "not yet known": "dim"}


@app.command()
def explain(
    observation: Annotated[str, typer.Argument(metavar="OBSERVATION", help="Its id.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Tell which pipelines run on an observation, and what each rule found."""
    decisions = _look_at(load_settings(), observation)
    if as_json:
        told = {"observation": observation, "pipelines": [_plain(d) for d in decisions]}
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False, default=str))
        return
    table = Table("pipeline", "", "rule", "found", "verdict", title=observation)
    for decision in decisions:
        said = f"[{_STYLES[decision.decided]}]{decision.decided}[/]"
        request = decision.reason if decision.decided == "by request" else ""
        table.add_row(decision.pipeline, said, request, "", "")
        for depth, judgement in _lines(decision.judgement):
            rule, found, verdict = _words(judgement)
            table.add_row("", "", "  " * depth + _literal(rule), _literal(found), verdict)
        table.add_section()
    print_table(table, console)


def _look_at(settings: Settings, observation: str) -> "list[Decision]":
    """What is decided of an observation; the command ends if the catalogue has none of the id."""
    from roboao_assets.pipelines.decisions import CHAINS, look
    from roboao_assets.pipelines.workspace import Workspace
    from roboao_assets.storage.catalogue import open_catalogue

    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        document = catalogue.observation(observation)
        if document is None:
            stop(
                f"the catalogue has no observation {observation}; `roboao status` lists the "
                f"nights, `roboao status YYYYMMDD` their observations"
            )
        ws = Workspace(settings=settings, paths=archive_paths(settings), catalogue=catalogue)
        return [look(ws, pipeline, document) for pipeline in CHAINS]


def _lines(judgement: "Judgement", depth: int = 0) -> "Iterator[tuple[int, Judgement]]":
    yield depth, judgement
    for part in judgement.parts:
        yield from _lines(part, depth + 1)


def _words(judgement: "Judgement") -> tuple[str, str, str]:
    from roboao_assets.storage.decisions import condition_words, found_words

    found = "" if judgement.found is None else found_words(judgement.found)
    return condition_words(judgement.condition), found, str(judgement.verdict)


def _literal(text: str) -> str:
    # Square brackets would be read as markup.
    return text.replace("[", r"\[")


def _plain(decision: "Decision") -> dict[str, Any]:
    return {
        "pipeline": decision.pipeline,
        "decided": decision.decided,
        "reason": decision.reason,
        "chain": _plain_judgement(decision.judgement),
    }


def _plain_judgement(judgement: "Judgement") -> dict[str, Any]:
    from roboao_assets.storage.decisions import condition_words, plain_condition

    verdict = {"verdict": str(judgement.verdict)}
    if judgement.found is not None:
        found = {"found": judgement.found.value, "missing": judgement.found.missing}
        return plain_condition(judgement.condition) | found | verdict
    parts = [_plain_judgement(part) for part in judgement.parts]
    return {"join": condition_words(judgement.condition), "parts": parts} | verdict
