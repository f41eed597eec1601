"""TensorBoard's event files, made from the run folder. Needs neither TensorFlow nor torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.scalar.metadata import create_summary_metadata as scalar_metadata
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from mltrain.core.run_folder import RunFolder
from mltrain.tracking.metrics_log import NOT_VALUES
from mltrain.tracking.non_private import NON_PRIVATE
from mltrain.tracking.run_facts import read_facts
from mltrain.tracking.sink import Sink

__all__ = ["EventFile", "open_sink"]

_SUFFIX = ".mltrain"
_NOTICE = "Not private: no privacy guarantee covers this value."


class EventFile(Sink):
    """One event file that holds the whole run.

    Event files can only grow. So one is written anew from `metrics.jsonl` whenever the run is opened or was cut back:
    then each value is there once. What was written before is removed; files of others beside it are left alone.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.name = str(folder.tensorboard)
        self._last_step = 0
        self._writer = self._begin()

    def points(self, record: Mapping[str, Any]) -> list[Event]:
        """Return one event a value. One that is not private says so in its description, which the pages show."""
        step, wall_time = record["step"], record["time"]
        self._last_step = step
        listed = record.get(NON_PRIVATE, ())
        return [
            Event(
                step=step,
                wall_time=wall_time,
                summary=Summary(value=[_scalar(name, value, private=name not in listed)]),
            )
            for name, value in record.items()
            if name not in NOT_VALUES and isinstance(value, int | float)
        ]

    def send(self, points: Sequence[Event]) -> None:
        """Write events; they are on the disk when this returns."""
        for event in points:
            self._writer.add_event(event)
        self._writer.flush()

    def start_over(self) -> None:
        """Begin a new file."""
        self._writer.close()
        self._writer = self._begin()

    def end(self, folder: RunFolder, status: str, *, ended_at: float) -> None:
        """Add the configuration, the status and the figures, and close the file."""
        config = yaml.safe_dump(read_facts(folder).config, sort_keys=False, allow_unicode=True)
        values = [_text("config", f"```yaml\n{config}```"), _text("status", status)]
        if folder.summary_text.is_file():
            values.append(_text("summary", f"```\n{folder.summary_text.read_text(encoding='utf-8')}```"))
        values += [_image(path) for path in sorted(folder.reports.glob("*.png"))]
        for value in values:
            self._writer.add_event(Event(step=self._last_step, wall_time=ended_at, summary=Summary(value=[value])))
        self._writer.close()

    def _begin(self) -> EventFileWriter:
        earlier = list(self._folder.tensorboard.glob(f"events.out.tfevents.*{_SUFFIX}"))
        writer = EventFileWriter(str(self._folder.tensorboard), filename_suffix=_SUFFIX)
        # Tells a TensorBoard that shows the run to forget what it has read of it.
        writer.add_event(Event(step=0, session_log=SessionLog(status=SessionLog.START)))
        writer.flush()
        for path in earlier:
            path.unlink()
        return writer


def open_sink(folder: RunFolder, _settings: Mapping[str, Any]) -> Sink:
    """Open the event file of this folder."""
    return EventFile(folder)


def _scalar(name: str, value: float, *, private: bool) -> Summary.Value:
    if private:
        return Summary.Value(tag=name, simple_value=value)
    return Summary.Value(tag=name, simple_value=value, metadata=scalar_metadata(display_name=name, description=_NOTICE))


def _text(name: str, text: str) -> Summary.Value:
    tensor = TensorProto(
        dtype=DT_STRING,
        string_val=[text.encode()],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
    )
    metadata = create_summary_metadata(display_name=name, description="")
    return Summary.Value(tag=f"{name}/text_summary", metadata=metadata, tensor=tensor)


def _image(path: Path) -> Summary.Value:
    with Image.open(path) as image:
        width, height, bands = image.width, image.height, len(image.getbands())
    picture = Summary.Image(height=height, width=width, colorspace=bands, encoded_image_string=path.read_bytes())
    return Summary.Value(tag=f"reports/{path.stem}", image=picture)
