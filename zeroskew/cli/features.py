"""Feature store commands: apply, services, join, materialise, read, push."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from zeroskew.cli import features_audit
from zeroskew.cli.tables import bars, moment, read_frame, write_frame
from zeroskew.errors import ConfigError

if TYPE_CHECKING:
    from zeroskew.features.online_reader import OnlineRows
    from zeroskew.features.repository import Repository

features = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Feature store of a model's folder: training joins offline, values for serving online.",
)

Folder = Annotated[
    Path,
    typer.Argument(help="Model folder (features.py and feature_store.yaml).", metavar="FOLDER"),
]
Service = Annotated[
    str | None, typer.Option("--service", "-s", help="Feature service. Default: the only one.")
]
Features = Annotated[
    list[str] | None,
    typer.Option("--feature", "-f", help="`feature` or `view:feature` instead; repeatable."),
]


features_audit.add_to(features)


class Shape(StrEnum):
    table = "table"
    json = "json"


class Target(StrEnum):
    online = "online"
    offline = "offline"
    both = "both"


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(features, name="features")


def _open(folder: Path, *, online: bool) -> Repository:
    """The repository over this environment's endpoints; starts the embedded Valkey if needed."""
    from zeroskew.cli.stack import export_endpoints

    export_endpoints(online=online)
    from zeroskew.features.repository import open_repository

    return open_repository(folder)


def _wanted(repository: Repository, service: str | None, names: list[str] | None) -> Any:
    """Service name, or list of features; exactly one of the two options, or the only service."""
    if service and names:
        raise ConfigError("--service and --feature exclude each other")
    if names:
        return names
    known = list(repository.definitions.services)
    if service is None and len(known) == 1:
        return known[0]
    if service is None:
        raise ConfigError(
            f"the folder has {len(known)} feature services",
            where="--service",
            mend=f"name one of {', '.join(known)}" if known else "or give --feature",
        )
    repository.service(service)
    return service


@features.command()
def apply(folder: Folder) -> None:
    """Read features.py and bring the registry up to date.

    The other commands do this as well, so there is no need to; here you see what is defined.

        zeroskew features apply pipelines/flight_delay
    """
    repository = _open(folder, online=False)
    table = Table(title=f"Feature views of {repository.project}")
    for title in ("view", "keys", "TTL", "online", "features"):
        table.add_column(title)
    for name in repository.definitions.feature_views:
        view = repository.view(name)
        table.add_row(
            name,
            ", ".join(c.name for c in view.entity_columns if c.name != "__dummy_id"),
            str(view.ttl) if view.ttl else "none",
            "yes" if view.online else "no",
            ", ".join(f.name for f in view.features),
        )
    for name, view in repository.definitions.on_demand.items():
        table.add_row(name, "", "", "computed", ", ".join(f.name for f in view.features))
    console = Console()
    console.print(table)
    console.print(
        "feature services: " + (", ".join(repository.definitions.services) or "none"), style="dim"
    )


@features.command()
def services(folder: Folder) -> None:
    """Show every feature service with its features, their types and the schema version.

    zeroskew features services pipelines/flight_delay
    """
    repository = _open(folder, online=False)
    console = Console()
    for name in repository.definitions.services:
        table = Table(title=f"{name}  [dim]{repository.schema_version(name)[:12]}[/]")
        table.add_column("feature")
        table.add_column("type")
        for feature, kind in repository.feature_types(name).items():
            table.add_row(feature, kind)
        console.print(table)


@features.command()
def join(
    folder: Folder,
    rows: Annotated[
        Path,
        typer.Option(help="Entity rows: keys and a column `event_timestamp` (Parquet, CSV, JSON)."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write (.parquet, .csv, .json).")
    ],
    service: Service = None,
    feature: Features = None,
    full_names: Annotated[
        bool, typer.Option("--full-names", help="Name features `view__feature`.")
    ] = False,
) -> None:
    """Join features to entity rows as they were known at each row's time.

    Every row comes back once, in order; what was not known yet, or is older than its TTL, is null.

        zeroskew features join pipelines/flight_delay --rows rows.parquet --out train.parquet
    """
    from zeroskew.features.store import FeatureStore

    if out.suffix.lower() not in (".parquet", ".csv", ".json", ".ndjson"):
        raise ConfigError(f"{out} is none of .parquet, .csv, .json, .ndjson", where="--out")
    entity_rows = read_frame(rows, "--rows")
    repository = _open(folder, online=False)
    wanted = _wanted(repository, service, feature)
    with bars() as tell:
        tell("join", 0, entity_rows.height)
        joined = FeatureStore.of(repository).join(
            entity_rows, wanted, full_feature_names=full_names
        )
        tell("join", joined.height, entity_rows.height)
        tell("write", 0, joined.height)
        write_frame(joined, out)
        tell("write", joined.height, joined.height)
    Console(stderr=True).print(f"{joined.height:,} rows × {joined.width} columns → {out}")


@features.command()
def materialise(
    folder: Folder,
    view: Annotated[
        list[str] | None, typer.Option("--view", "-v", help="Only this view; repeatable.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="ISO 8601, UTC. Default: where the last materialisation ended."),
    ] = None,
    end: Annotated[str | None, typer.Option(help="ISO 8601, UTC. Default: now.")] = None,
    replace_ties: Annotated[
        bool,
        typer.Option("--replace-ties", help="Also rewrite values of the same event time."),
    ] = False,
    shape: Annotated[
        Shape, typer.Option("--format", help="How to print the report.")
    ] = Shape.table,
) -> None:
    """Bring the newest values to the online store, where serving reads them.

    Incremental, safe to repeat and to interrupt: a newer value is never overwritten, and what was
    not finished is done again next time.

        zeroskew features materialise pipelines/flight_delay --end 2013-07-01
    """
    from datetime import UTC, datetime

    since, until = moment(start, "--start"), moment(end, "--end")
    repository = _open(folder, online=True)
    from zeroskew.features.materialise import materialise as run

    with bars() as tell:
        report = run(
            repository,
            views=view or None,
            start=since,
            end=until or datetime.now(UTC),
            replace_ties=replace_ties,
            on_progress=tell,
        )
    console = Console()
    if shape is Shape.json:
        console.print_json(data=report.to_json())
        return
    table = Table(title=f"Materialised {report.written:,} of {report.rows:,} entities")
    table.add_column("view")
    table.add_column("from")
    table.add_column("to")
    for title in ("written", "kept newer", "without key or time", "seconds"):
        table.add_column(title, justify="right")
    for one in report.views:
        table.add_row(
            one.view,
            f"{one.start:%Y-%m-%d %H:%M:%S}",
            f"{one.end:%Y-%m-%d %H:%M:%S}",
            f"{one.written:,}",
            f"{one.kept:,}",
            f"{one.dropped:,}",
            f"{one.seconds:.1f}",
        )
    console.print(table)


@features.command()
def read(
    folder: Folder,
    entity: Annotated[
        list[str] | None,
        typer.Option("--entity", "-e", help="`key=value[,key=value…]`, one entity; repeatable."),
    ] = None,
    rows: Annotated[
        Path | None, typer.Option(help="Or a file with the key columns (Parquet, CSV, JSON).")
    ] = None,
    service: Service = None,
    feature: Features = None,
    at: Annotated[
        str | None, typer.Option(help="Judge staleness as of this moment. Default: now.")
    ] = None,
    shape: Annotated[Shape, typer.Option("--format", help="How to print.")] = Shape.table,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the values to a file instead.")
    ] = None,
) -> None:
    """Read features from the online store, as serving would.

    The table marks values that are missing, and values that are older than their view's TTL (those
    count as missing in training and serving; here you still see them).

        zeroskew features read pipelines/flight_delay -f weather:temperature -e origin=EWR
        zeroskew features read pipelines/flight_delay -e origin=EWR,carrier=UA --format json
    """
    now = moment(at, "--at")
    if bool(entity) == (rows is not None):
        raise ConfigError("give --entity or --rows, one of the two", mend="-e origin=EWR")
    frame = read_frame(rows, "--rows") if rows is not None else None
    repository = _open(folder, online=True)
    from zeroskew.features.store import FeatureStore

    store = FeatureStore.of(repository)
    wanted = _wanted(repository, service, feature)
    plan = store.plan(wanted)
    columns: dict[str, Any] = (
        _entity_columns(entity or [], plan.entity_columns)
        if frame is None
        else {name: frame.get_column(name) for name in plan.entity_columns if name in frame.columns}
    )
    answer = store.read_online(columns, wanted, now=now)
    if out is not None:
        import polars as pl

        keys = {name: list(values) for name, values in columns.items()}
        write_frame(pl.DataFrame({**keys, **answer.to_dict(stale=False)}, strict=False), out)
        Console(stderr=True).print(f"{len(answer):,} rows → {out}")
    elif shape is Shape.json:
        import json

        print(json.dumps(_records(columns, answer), default=str, ensure_ascii=False, indent=2))
    else:
        Console().print(_drawn(columns, answer))
    for transform in plan.transforms:
        Console(stderr=True).print(
            f"{', '.join(transform.outputs)} are computed when a request comes and not stored",
            style="dim",
        )


@features.command()
def push(
    folder: Folder,
    source: Annotated[str, typer.Argument(help="Push source of features.py.", metavar="SOURCE")],
    rows: Annotated[Path, typer.Option(help="Rows with the source's columns and event times.")],
    to: Annotated[Target, typer.Option(help="Where the rows go.")] = Target.online,
) -> None:
    """Feed fresh rows to every view of a push source. Online, the newest value wins.

    zeroskew features push pipelines/flight_delay delays_push --rows fresh.parquet --to both
    """
    frame = read_frame(rows, "--rows")
    repository = _open(folder, online=to is not Target.offline)
    from zeroskew.features.store import FeatureStore

    counts = FeatureStore.of(repository).push(source, frame, to=to.value)
    console = Console()
    for view, count in counts.items():
        console.print(
            f"{view}: {count.written:,} written, {count.kept:,} kept newer, "
            f"{count.dropped:,} without key or time"
        )
    if to is not Target.online:
        console.print(f"{frame.height:,} rows appended to the offline source")


def _entity_columns(texts: list[str], kinds: dict[str, str]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in kinds}
    for text in texts:
        given: dict[str, str] = {}
        for part in text.split(","):
            name, equals, value = part.partition("=")
            if not equals or name.strip() not in kinds:
                raise ConfigError(
                    f"`{part}` is no key=value of {', '.join(kinds)}",
                    where="--entity",
                    mend="-e " + ",".join(f"{n}=…" for n in kinds),
                )
            given[name.strip()] = value
        absent = [name for name in kinds if name not in given]
        if absent:
            raise ConfigError(
                f"`{text}` lacks {', '.join(absent)}",
                where="--entity",
                mend="-e " + ",".join(f"{n}=…" for n in kinds),
            )
        for name, value in given.items():
            columns[name].append(_key(value, kinds[name], name))
    return columns


def _key(text: str, kind: str, name: str) -> Any:
    if kind in ("int64", "int32", "timestamp"):
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f"{name} is an {kind}, `{text}` is not", where="--entity") from None
    return text.encode() if kind == "bytes" else text


def _records(columns: dict[str, Any], answer: OnlineRows) -> list[dict[str, Any]]:
    words = ("present", "missing", "stale")
    values = answer.to_dict()
    return [
        {
            "entity": {name: list(column)[row] for name, column in columns.items()},
            "features": {
                name: {"value": values[name][row], "status": words[answer.status[name][row]]}
                for name in values
            },
        }
        for row in range(len(answer))
    ]


def _drawn(columns: dict[str, Any], answer: OnlineRows) -> Table:
    table = Table(title="Online features")
    table.add_column("feature")
    listed = {name: list(column) for name, column in columns.items()}
    for row in range(len(answer)):
        table.add_column(", ".join(str(column[row]) for column in listed.values()))
    values = answer.to_dict()
    for name, column in values.items():
        cells = []
        for row, value in enumerate(column):
            status = answer.status[name][row]
            text = "[dim]missing[/]" if status == 1 else str(value).replace("[", "\\[")
            cells.append(f"[yellow]{text} (stale)[/]" if status == 2 else text)
        table.add_row(name, *cells)
    return table
