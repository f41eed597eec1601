"""Cut the rows of a table into a test set and folds, and write the split files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mltrain.core.errors import ConfigError, DataError
from mltrain.core.files import content_digest
from mltrain.data.class_names import alike_classes
from mltrain.data.image_files import first_few, printable
from mltrain.data.split_files import FileRecord
from mltrain.data.splits import write_splits
from mltrain.data.tables.columns import Column
from mltrain.data.tables.row_ids import row_contents, row_digests, row_ids
from mltrain.data.tables.row_lists import RowSplitFacts, usual_content
from mltrain.data.tables.row_splits import OnBadRows
from mltrain.data.tables.row_units import row_units
from mltrain.data.tables.sound_rows import SoundRows
from mltrain.data.tables.strata import Strata, strata_of
from mltrain.data.tables.table import Table, read_table
from mltrain.data.tables.table_format import Quoting, TableFormat
from mltrain.workflows.split import Labelled, SplitResult, cut, read_shares

__all__ = ["split_rows"]

_ONE_STRATUM = "all rows"


def split_rows(
    table: str | Path,
    *,
    label: str | None = None,
    group: str | None = None,
    content: Sequence[str] | None = None,
    bins: int | None = None,
    column_names: Sequence[str] | None = None,
    quoting: Quoting = "csv",
    folds: int = 5,
    test_ratio: float = 0.15,
    ratio: Sequence[float] | None = None,
    seed: int = 42,
    output: str | Path | None = None,
    overwrite: bool = False,
    on_bad_rows: OnBadRows = "stop",
) -> SplitResult:
    """Split the rows of a CSV, TSV, JSON lines or Parquet file, and write `test.txt`, `fold_K_*.txt` and `splits.json`.

    The lists hold IDs of rows, made of their content. The result depends on the content of the rows, the seed and the
    shares; not on their order. Rows that are equal in `content`, and those of one group, stay on one side.

    Args:
        table: the file.
        label: column to stratify by. Numbers of many values are stratified by bins: see `strata_of`. None: nothing.
        group: column of what must stay on one side, such as a patient. None: nothing but equal rows.
        content: columns in which rows are equal that must stay on one side. None: all but the label.
        bins: number of bins of a numeric label. None: chosen, where there are too many values to be classes.
        column_names, quoting: see `TableFormat`.
        folds, test_ratio, ratio, seed, overwrite: as for `split_folder`.
        output: folder of the split files. Default: `splits` beside the table.
        on_bad_rows: rows without a label or a group: "stop" raises, "skip" leaves them out of all lists.

    Raises:
        ConfigError: an argument is out of range.
        DataError: the table cannot be used or split so, or the files cannot be written.
    """
    shares = read_shares(folds, test_ratio, ratio, seed)
    _refuse_bins(bins, label)
    file = Path(table)
    read = read_table(file, TableFormat(None if column_names is None else tuple(column_names), quoting))
    sound = _sound_rows(read, label, group, on_bad_rows)
    rows = sound.kept(range(len(read)))
    if not rows:
        raise DataError("the table has no row that can be used", where=read.name, fix="Mend its rows.")
    strata = Strata([_ONE_STRATUM] * len(rows), None)
    if label is not None:
        labels = sound.values(label)
        strata = strata_of([labels[row] for row in rows], parts=folds + (shares.test > 0), bins=bins)
        _refuse_single(strata, read, label)
    taken = sorted(content) if content is not None else usual_content(read.columns, label)
    facts = RowSplitFacts(file.name, sorted(read.columns), label, group, taken, strata.bins)
    groups = None if group is None else [sound.values(group)[row] for row in rows]
    splits = cut(_labelled(read, rows, strata, facts, groups), shares)
    folder = Path(output) if output is not None else file.parent / "splits"
    outcome = write_splits(splits, folder, overwrite=overwrite)
    copies = len(rows) - len({record.digest for record in splits.files.values()})
    classes = alike_classes(splits.classes) if strata.bins is None else []
    return SplitResult(splits, folder, outcome, [*sound.remarks(), *_copies(copies, taken, read), *classes])


def _sound_rows(table: Table, label: str | None, group: str | None, on_bad_rows: OnBadRows) -> SoundRows:
    options = {"--label": label, "--group": group}
    columns = [Column(name, option, "label") for option, name in options.items() if name is not None]
    sound = SoundRows(table, columns, None, {"all": range(len(table))}, {})
    if on_bad_rows == "stop":
        sound.refuse_problems("--on_bad_rows skip")
    return sound


def _labelled(
    table: Table, rows: Sequence[int], strata: Strata, facts: RowSplitFacts, groups: Sequence[str] | None
) -> Labelled:
    """Return the rows as `cut` takes them. What must stay together beyond equal rows of one stratum is their group."""
    contents = row_digests(table, facts.content, "--content")
    units = row_units([contents[row] for row in rows], strata.names, groups)
    whole = list(row_contents(table, facts.columns, "--table"))
    ids = row_ids([content_digest(content) for content in whole])
    records = {ids[row]: FileRecord(unit.digest, len(whole[row])) for row, unit in zip(rows, units, strict=True)}
    return Labelled(
        table.file,
        dict(sorted(records.items())),
        {ids[row]: name for row, name in zip(rows, strata.names, strict=True)},
        {ids[row]: unit.group for row, unit in zip(rows, units, strict=True) if unit.group is not None},
        facts.to_json(),
        "row",
    )


def _refuse_bins(bins: int | None, label: str | None) -> None:
    if bins is not None and label is None:
        raise ConfigError("is for a numeric label", where="--bins", fix="Name its column with --label.")
    if bins is not None and bins < 2:
        raise ConfigError(f"{bins} bins", where="--bins", fix="Give 2 or more.")


def _refuse_single(strata: Strata, table: Table, label: str) -> None:
    if strata.bins is None and len(set(strata.names)) < 2:
        raise DataError(
            f"'{printable(label)}' has a single class, {first_few(strata.names[:1])}; at least two are needed",
            where=table.name,
            fix="Name the column of the classes with --label, or split without one with --rows.",
        )


def _copies(count: int, content: Sequence[str], table: Table) -> list[str]:
    if not count:
        return []
    rows = "1 row is a copy of another" if count == 1 else f"{count} rows are copies of others"
    of = "" if len(content) >= len(table.columns) - 1 else f" in {first_few(list(content))}"
    return [f"{rows}{of}; copies stay in one split."]
