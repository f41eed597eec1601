"""What a run folder says when a segment of the run begins: its configuration, its circumstances, that it is running."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mltrain.config.schema import Config
from mltrain.config.yaml_file import dump_yaml
from mltrain.core.files import clear_leftovers, read_json, write_json, write_text
from mltrain.core.logging import log
from mltrain.core.run_folder import RunFolder
from mltrain.data.data_files import DataFile, write_data_files
from mltrain.workflows.metadata import installed_packages, run_metadata
from mltrain.workflows.resume import ResumePoint, changes_since

__all__ = ["begin_segment"]


def begin_segment(
    folder: RunFolder,
    config: Config,
    point: ResumePoint | None,
    *,
    ranks: Sequence[Mapping[str, Any]],
    data: Mapping[str, Any],
    initial_weights: Mapping[str, str] | None,
    window_size: int,
    data_files: Iterable[DataFile] = (),
    fitted: Mapping[str, Any] | None = None,
) -> None:
    """Write configuration, metadata, packages, the list of files and what was fitted; a resumed run adds a segment.

    The summary of the segment before is kept in the new one: the run's own is about to say that it is running.

    Args:
        folder, config, point: the run, and where it continues, if it does.
        ranks: what `gather_rank_facts` gave.
        data, data_files: what it learns from.
        fitted: what the task has computed from it, which the run keeps.
        initial_weights: where its first weights came from; None: they are drawn.
        window_size: samples of an optimizer step.

    Raises:
        ConfigError: the run continues with something that must not change.
    """
    clear_leftovers(folder.path)
    packages = installed_packages()
    facts = run_metadata(hardware=ranks[0]["hardware"], data=dict(data), packages=packages)
    segment = {name: facts[name] for name in ("created", "command_line", "git", "hardware")}
    segment["ranks"] = list(ranks)
    weights = None if initial_weights is None else dict(initial_weights)
    metadata = {**facts, "initial_weights": weights, "window_size": window_size, "segments": [segment]}
    if point is not None and point.has_begun:
        changes = changes_since(
            folder, config, data=data, data_files=data_files, initial_weights=weights, window_size=window_size
        )
        _tell(changes, point)
        metadata = read_json(folder.metadata)
        start = point.checkpoint.name if point.checkpoint is not None else None
        metadata["segments"].append({**segment, "resumed_from": start, "changes": changes, **_end_before(folder)})
    else:
        if point is not None:
            earlier = read_json(folder.metadata)["segments"]
            metadata["segments"] = [*earlier, {**segment, "resumed_from": None, "changes": {}, **_end_before(folder)}]
        write_data_files(folder.data_files, data_files)
        folder.fitted.unlink(missing_ok=True)
        if fitted:
            write_json(folder.fitted, fitted)
    for path, flaw in data.get("left_out", {}).items():
        log.debug("Left out: %s: %s", path, flaw)
    write_json(folder.metadata, metadata)
    write_text(folder.config, dump_yaml(_own_values(config, point)))
    write_text(folder.requirements, "".join(f"{name}=={version}\n" for name, version in packages.items()))


def _end_before(folder: RunFolder) -> dict[str, Any]:
    """Return how the segment before came to its end, as far as it could say so."""
    return {"summary_before": read_json(folder.summary) if folder.summary.is_file() else None}


def _tell(changes: Mapping[str, Sequence[Any]], point: ResumePoint) -> None:
    """Log what of this segment differs from the run."""
    if point.notice:
        log.info("%s", point.notice)
    for key, (then, now_is) in changes.items():
        if key not in point.kept:
            log.warning("Changed since the run began: %s from %r to %r.", key, then, now_is)


def _own_values(config: Config, point: ResumePoint | None) -> dict[str, Any]:
    """Return the configuration that the run keeps: the segment's, but for what stays as the run began."""
    values = config.model_dump()
    for key, value in (point.kept if point is not None else {}).items():
        section, _, name = key.partition(".")
        values[section][name] = value
    return values
