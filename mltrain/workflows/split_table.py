"""Cut the images that a table names into a test set and folds, and write the split files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mltrain.core.errors import DataError
from mltrain.data.image_files import printable
from mltrain.data.image_table import TableColumns, read_image_table
from mltrain.data.sound_images import OnCorrupt
from mltrain.data.splits import write_splits
from mltrain.data.table_source import table_facts
from mltrain.workflows.split import Labelled, SplitResult, cut, read_records, read_shares, split_notices

__all__ = ["split_table"]


def split_table(
    table: str | Path,
    *,
    data_dir: str | Path | None = None,
    path_column: str = "path",
    label_column: str = "label",
    group_column: str | None = None,
    folds: int = 5,
    test_ratio: float = 0.15,
    ratio: Sequence[float] | None = None,
    seed: int = 42,
    output: str | Path | None = None,
    overwrite: bool = False,
    on_corrupt: OnCorrupt = "stop",
) -> SplitResult:
    """Split the rows of a CSV or TSV file, and write `test.txt`, `fold_K_*.txt` and `splits.json`.

    The result depends on the content of the files, their labels and groups, the seed and the shares; not on names or
    the order of rows. Stratified by label; files of equal content, and of one group, stay on one side.

    Args:
        table: the file; its first line names the columns.
        data_dir: the folder that paths are relative to. Default: that of the table.
        path_column, label_column: columns of the image file and of its class.
        group_column: column of what must stay on one side, such as a patient. None: nothing but exact copies.
        folds, test_ratio, ratio, seed, overwrite, on_corrupt: as for `split_folder`.
        output: folder of the split files. Default: `splits` in the data folder.

    Raises:
        ConfigError: an argument is out of range.
        DataError: the table or its images cannot be used or split so, or the files cannot be written.
    """
    shares = read_shares(folds, test_ratio, ratio, seed)
    file = Path(table)
    root = Path(data_dir) if data_dir is not None else file.parent
    read = read_image_table(file, root, TableColumns(path_column, label_column, group_column))
    if len(set(read.labels.values())) < 2:
        raise DataError(
            f"a single class, {printable(read.rows[0].label)}; at least two are needed",
            where=printable(str(file)),
            fix="Name the column of the classes with --label_column.",
        )
    records, flaws = read_records(root, read.labels, on_corrupt)
    groups = {row.path: row.group for row in read.rows} if group_column is not None else {}
    splits = cut(Labelled(file, records, read.labels, groups, table_facts(file, read.columns)), shares)
    folder = Path(output) if output is not None else root / "splits"
    outcome = write_splits(splits, folder, overwrite=overwrite)
    return SplitResult(splits, folder, outcome, split_notices(splits, flaws))
