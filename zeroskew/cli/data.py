"""Data commands: what a file holds, how far it has moved, and whether it may train a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroskew.errors import ConfigError, DataError

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from zeroskew.profiles import ColumnProfile, Drift, Profile


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("profile")(profile)
    app.command("validate")(validate)


def profile(
    file: Annotated[
        Path, typer.Argument(help="Parquet or CSV file, or a folder of Parquet files.")
    ],
    reference: Annotated[
        Path | None,
        typer.Option(help="profile.json to compare with; its bins are used, and PSI is shown."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the profile here, as JSON. With --reference: the measured one."),
    ] = None,
    bins: Annotated[int, typer.Option(min=2, max=100, help="Quantile bins of a number.")] = 10,
    categorical: Annotated[
        str, typer.Option(help="Number columns that are identifiers, parted by commas.")
    ] = "",
) -> None:
    """Show what each column of FILE holds, and how far it has moved from a reference.

    [bold]zeroskew profile march.parquet --out march.json[/]

    [bold]zeroskew profile april.parquet --reference march.json[/]

    Colours: PSI below 0.1 is stable, up to 0.25 moderate, above it significant. Below 500 rows
    on either side it is inconclusive.
    """
    from rich.console import Console

    from zeroskew.profiles import Profile, compare

    known = Profile.load(reference) if reference else None
    frame = read_table(file)
    names = tuple(name.strip() for name in categorical.split(",") if name.strip())
    _require(names, frame, "--categorical")
    drifts: dict[str, Drift] = {}
    if known is None:
        found = Profile.learn(frame, bins=bins, categorical=names)
    else:
        shared = known.select(frame.columns)
        if not shared.columns:
            raise DataError(
                "no column of the reference is in the file",
                where=str(file),
                mend=f"the reference has {', '.join(list(known.columns)[:8])}",
            )
        found = shared.measure(frame)
        drifts = compare(shared, found)
    console = Console()
    console.print(_profile_table(found, drifts, f"{file.name}: {frame.height:,} rows"))
    if known is not None:
        _say_unpaired(console, known, frame)
    if out is not None:
        found.save(out)
        console.print(f"written: {out}", markup=False, highlight=False)


def validate(
    file: Annotated[
        Path, typer.Argument(help="Parquet or CSV file, or a folder of Parquet files.")
    ],
    model: Annotated[Path, typer.Option(help="Folder of the model: its model.yaml has the gates.")],
    reference: Annotated[
        Path | None, typer.Option(help="profile.json of the last training set.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report page here.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the file's own profile here, as JSON.")
    ] = None,
) -> None:
    """Check FILE against the gates of a model; ends with exit code 1 when one fails.

    [bold]zeroskew validate train.parquet --model pipelines/flight_delay --reference last.json[/]

    Columns are those that the gates or the reference name; the types are the reference's, or the
    file's own. The pipeline checks the feature service's schema as well.
    """
    from rich.console import Console

    from zeroskew.model_config import load_model_config
    from zeroskew.profiles import Profile
    from zeroskew.validation import validate as check

    config = load_model_config(model)
    known = Profile.load(reference) if reference else None
    frame = read_table(file)
    schema, identifiers = _schema(frame, config, known)
    report = check(
        frame,
        schema,
        config.validation,
        known,
        where=str(file),
        strict_columns=False,
        categorical=identifiers,
    )
    if html is not None:
        report.page().save(html)
    if out is not None:
        report.profile.save(out)
    console = Console()
    hidden = {"absent"}  # columns that the model does not use are no news here
    shown = tuple(f for f in report.findings if f.limit not in hidden and f not in report.failed)
    if shown:
        console.print(report.table(shown))
    report.raise_if_failed()
    console.print(
        f"[bold green]passed[/] {len(report.checks) - len(report.findings)} checks on "
        f"{frame.height:,} rows, {len(report.inconclusive)} inconclusive"
    )


def read_table(path: Path) -> pl.DataFrame:
    """Read a Parquet or CSV file, or a folder of Parquet files.

    Raises `DataError` that says whether it is missing, empty or cut short.
    """
    import polars as pl

    where = str(path)
    if not path.exists():
        raise DataError("there is no such file or folder", where=where)
    try:
        if path.is_dir():
            if next(path.glob("**/*.parquet"), None) is None:
                raise DataError("the folder holds no Parquet file", where=where)
            return pl.read_parquet(path / "**" / "*.parquet")
        if path.stat().st_size == 0:
            raise DataError("the file is empty", where=where, mend="write it again")
        if path.suffix.lower() in (".csv", ".tsv"):
            separator = "\t" if path.suffix.lower() == ".tsv" else ","
            return pl.read_csv(path, separator=separator, infer_schema_length=None)
        _require_whole_parquet(path)
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot be read: {first}", where=where) from None


def _require_whole_parquet(path: Path) -> None:
    magic = b"PAR1"
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(-min(4, path.stat().st_size), 2)
        end = file.read(4)
    if start != magic:
        raise DataError(
            "this is no Parquet file", where=str(path), mend="give .parquet, .csv or .tsv"
        )
    if end != magic or path.stat().st_size < 12:
        raise DataError(
            "the Parquet file is cut short: its end is missing",
            where=str(path),
            mend="copy or write it again",
        )


def _schema(
    frame: pl.DataFrame, config: Any, known: Profile | None
) -> tuple[dict[str, str], list[str]]:
    """Columns to check with their types, and those that the reference counts by value."""
    names = [*(known.columns if known else ()), *config.validation.columns]
    schema: dict[str, str] = {}
    identifiers = []
    for name in dict.fromkeys(names):
        here = str(frame.schema[name]) if name in frame.columns else None
        if known is not None and name in known.columns:
            kind = known.columns[name].kind
            if here is None:
                here = {"numeric": "number", "categorical": "text"}[kind]
            elif kind == "categorical" and not here.startswith(("String", "Cat", "Enum")):
                identifiers.append(name)
        schema[name] = here or "any type"
    if not schema:
        return {name: str(dtype) for name, dtype in frame.schema.items()}, []
    return schema, identifiers


def _profile_table(found: Profile, drifts: dict[str, Drift], title: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from zeroskew.validation.report import STYLES, VERDICT_TONES, printable

    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, side in (("column", "left"), ("kind", "left"), ("nulls", "right")):
        table.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    table.add_column("values", overflow="fold")
    if drifts:
        table.add_column("PSI", justify="right")
        table.add_column("drift")
    for name, column in found.columns.items():
        nulls = f"{100 * column.nulls / column.total:.2f} %" if column.total else "–"
        cells = [printable(name), column.kind, nulls, _values(column)]
        row = [Text(cell) for cell in cells]
        if drifts:
            drift = drifts[name]
            style = STYLES[VERDICT_TONES[drift.verdict]]
            row += [Text(f"{drift.psi:.3f}", style), Text(drift.verdict, style)]
        table.add_row(*row)
    return table


def _values(column: ColumnProfile) -> str:
    from zeroskew.profiles import NumericProfile
    from zeroskew.validation.report import printable

    if isinstance(column, NumericProfile):
        if column.smallest is None or column.largest is None:
            return "no values"
        text = f"{column.smallest:,.6g} to {column.largest:,.6g}"
        outside = column.below + column.above
        return text + (f", {outside:,} outside" if outside else "")
    ranked = sorted(zip(column.values, column.counts, strict=True), key=lambda item: -item[1])
    names = ", ".join(printable(value) for value, count in ranked[:4] if count)
    more = sum(1 for _, count in ranked[4:] if count)
    text = names + (f" and {more:,} more" if more else "") or "no values"
    return text + (f", {column.unseen:,} rows beyond these" if column.unseen else "")


def _say_unpaired(console: Any, known: Profile, frame: pl.DataFrame) -> None:
    from zeroskew.validation.report import printable

    missing = [name for name in known.columns if name not in frame.columns]
    new = [name for name in frame.columns if name not in known.columns]
    for what, names in (("missing in the file", missing), ("not in the reference", new)):
        if names:
            text = printable(", ".join(names))
            console.print(f"{what}: {text}", style="yellow", markup=False, highlight=False)


def _require(names: tuple[str, ...], frame: pl.DataFrame, option: str) -> None:
    unknown = [name for name in names if name not in frame.columns]
    if unknown:
        raise ConfigError(
            f"{option} names columns that the file does not have: {', '.join(unknown)}",
            mend=f"it has {', '.join(frame.columns[:12])}",
        )
