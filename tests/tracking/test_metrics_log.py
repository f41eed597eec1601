import json
import math
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mltrain.tracking.metrics_log import NOT_VALUES, MetricsLog, read_metrics

names = st.text(min_size=1).filter(lambda name: name not in NOT_VALUES)
records = st.lists(
    st.tuples(st.integers(0, 2**53), st.integers(0, 10**6), st.dictionaries(names, st.floats())), max_size=8
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # a machine may be busy
@given(written=records)
def test_what_is_written_is_read_back(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    log = MetricsLog(path)
    returned = [log.write(step=step, epoch=epoch, values=values) for step, epoch, values in written]
    log.close()
    assert log.length == path.stat().st_size
    assert read_metrics(path) == returned
    for record, (step, epoch, values) in zip(returned, written, strict=True):
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        assert {**record, "time": 0} == {"step": step, "epoch": epoch, "time": 0, **finite}


def test_not_a_number_and_infinity_are_null(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write(step=1, epoch=0, values={"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.5})
    log.close()
    line = (tmp_path / "metrics.jsonl").read_text()
    record = json.loads(line, parse_constant=pytest.fail)
    assert [record[name] for name in "abcd"] == [None, None, None, 0.5]


def test_length_leads_back_to_where_a_checkpoint_stood(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.write(step=1, epoch=0, values={"loss": 3.0})
    at_checkpoint = log.length
    log.write(step=2, epoch=0, values={"loss": 2.0})
    log.close()

    resumed = MetricsLog(path, length=at_checkpoint)
    assert resumed.length == at_checkpoint
    resumed.write(step=2, epoch=0, values={"loss": 1.0})
    resumed.close()
    assert [(record["step"], record["loss"]) for record in read_metrics(path)] == [(1, 3.0), (2, 1.0)]


@pytest.mark.parametrize("length", [None, 10**9])
def test_a_torn_last_line_is_cut_off(tmp_path, length):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.write(step=1, epoch=0, values={"loss": 3.0})
    log.close()
    with path.open("ab") as stream:
        stream.write(b'{"step": 2, "epo')
    assert [record["step"] for record in read_metrics(path)] == [1]

    resumed = MetricsLog(path, length=length)
    resumed.write(step=2, epoch=0, values={})
    resumed.close()
    assert [record["step"] for record in read_metrics(path)] == [1, 2]


def test_a_file_of_one_torn_line_becomes_empty(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step"')
    assert read_metrics(path) == []
    MetricsLog(path).close()
    assert path.read_bytes() == b""


def test_a_missing_file_has_no_records(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


FULL = """
import errno, resource, sys
from pathlib import Path
from mltrain.tracking.metrics_log import MetricsLog, read_metrics

path = Path("metrics.jsonl")
log = MetricsLog(path)
log.write(step=1, epoch=0, values={"loss": 3.0})
whole = path.read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, resource.RLIM_INFINITY))
try:
    log.write(step=2, epoch=0, values={"loss": 2.0})
except OSError as error:
    assert error.errno == errno.EFBIG and error.filename == "metrics.jsonl", error
else:
    sys.exit("it was written past the limit")
assert path.read_bytes() == whole, "a part was left"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.write(step=3, epoch=0, values={"loss": 1.0})
log.close()
assert [record["step"] for record in read_metrics(path)] == [1, 3]
"""


def test_a_record_for_which_there_is_no_room_is_not_written_in_part():
    """The system writes a part up to the limit before it says that there is no more: so do full disks."""
    ended = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
