"""A folder of arrays: windows and responses that belong together, what identifies it, and every refusal."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import write_recordings

from mltrain.core.errors import ConfigError, DataError, MltrainError
from mltrain.data.modalities.array_files import open_arrays
from mltrain.data.modalities.dataset import RecordingDataset
from mltrain.data.modalities.division import Division
from mltrain.data.modalities.recordings import Recordings, read_recordings

TIME = Division("time", 0, 3, 0.2, 1, 20, None)
SUBJECT = Division("subject", 0, 3, 0.2, 1, 20, None)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("data") / "fmri", voxels=(6, 6, 6, 6, 6))


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(original, tmp_path / "fmri"))


def read(folder: Path, division: Division = TIME, **changes: Any) -> Recordings:
    settings = {"modalities": None, "subjects": None, "delay": None, "window": 3, **changes}
    return read_recordings(folder, division, **settings)


def test_a_sample_is_a_window_and_the_response_after_the_delay(original: Path) -> None:
    recordings = read(original, delay=4, window=3)
    arrays = {name: np.load(original / f"{name}.npy") for name in ("video", "audio", "text", "subject_02")}
    for part in recordings.parts.values():
        dataset = RecordingDataset(recordings, part)
        assert part.times[0] >= 2
        assert part.times[-1] + 4 < 240
        for index in (0, len(dataset) - 1):
            time, item = int(part.times[index]), dataset.load(index, None)
            assert dataset.sample_id(index) == str(time)
            for name in ("video", "audio", "text"):
                assert np.array_equal(item[name].numpy(), arrays[name][time - 2 : time + 1])
            assert item["fmri"].shape == (30,)
            assert np.array_equal(item["fmri"].numpy()[6:12], arrays["subject_02"][time + 4])


def test_no_response_of_one_side_is_explained_by_stimuli_of_another(original: Path) -> None:
    recordings = read(original, delay=2, window=3)
    assert recordings.gap == 10
    shown = {split: {int(t) - k for t in part.times for k in range(3)} for split, part in recordings.parts.items()}
    assert not shown["train"] & shown["test"]
    assert not shown["train"] & shown["val"]
    assert not shown["val"] & shown["test"]


def test_whole_subjects_are_held_out(original: Path) -> None:
    seen = []
    for fold in range(3):
        recordings = read(original, Division("subject", fold, 3, 0.3, 5, 20, None))
        subjects = {split: set(part.subjects) for split, part in recordings.parts.items()}
        assert set().union(*subjects.values()) == set(recordings.responses)
        assert sum(map(len, subjects.values())) == 5
        seen.append((subjects["val"], subjects["test"]))
        dataset = RecordingDataset(recordings, recordings.parts["val"])
        (subject,) = subjects["val"]
        assert dataset.sample_id(0) == f"{subject}/2"
        answer = np.load(original / f"{subject}.npy")[2 + recordings.delay]
        assert np.array_equal(dataset.load(0, None)["fmri"].numpy(), answer)
    assert len(set().union(*(val for val, _ in seen))) == 3
    assert seen[0][1] == seen[1][1] == seen[2][1]


def test_the_digest_tells_data_and_divisions_apart(original: Path, data: Path) -> None:
    first = read(original).facts()
    assert read(data).facts() == first, "where the folder lies is of no concern"
    others = [
        read(data, delay=2),
        read(data, window=2),
        read(data, Division("time", 1, 3, 0.2, 1, 20, None)),
        read(data, Division("time", 0, 3, 0.2, 2, 20, None)),
        read(data, modalities=["video", "text"]),
        read(data, subjects=["subject_01"]),
    ]
    values = np.load(data / "text.npy")
    values[7, 3] += 1
    np.save(data / "text.npy", values)
    digests = [first["digest"], *(other.facts()["digest"] for other in (*others, read(data)))]
    assert len(set(digests)) == len(digests)
    assert {file.path for file in read(data).files()} == {f"{name}.npy" for name in first["arrays"]}


def test_what_is_known_of_a_file_is_not_read_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mltrain.data.modalities import array_files

    monkeypatch.setattr(array_files, "_YOUNG_NS", -1)
    first = open_arrays(data, ["video", "text"])
    reads: list[Path] = []
    digest_of = array_files._digest
    monkeypatch.setattr(array_files, "_digest", lambda path: reads.append(path) or digest_of(path))
    again = open_arrays(data, ["video", "text"])
    assert reads == []
    assert {name: array.digest for name, array in again.items()} == {n: array.digest for n, array in first.items()}
    np.save(data / "text.npy", np.zeros((240, 2), np.float32))
    assert open_arrays(data, ["video", "text"])["text"].digest != first["text"].digest
    assert [path.name for path in reads] == ["text.npy"]


def test_a_change_in_mid_run_is_told(data: Path) -> None:
    recordings = read(data)
    dataset = RecordingDataset(recordings, recordings.parts["train"])
    content = (data / "text.npy").read_bytes()
    before = dataset.load(0, None)
    (data / "text.npy").unlink()
    (data / "text.npy").write_bytes(content)
    assert np.array_equal(dataset.load(0, None)["text"], before["text"]), "the same content again is no change"
    (data / "text.npy").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=r"text\.npy: the array has changed since the run began"):
        dataset.load(0, None)
    (data / "text.npy").unlink()
    with pytest.raises(DataError, match=r"text\.npy: the array was there when the run began, now it is gone"):
        dataset.load(0, None)


def test_arrays_do_not_travel_to_other_processes(original: Path) -> None:
    recordings = read(original)
    dataset = RecordingDataset(recordings, recordings.parts["train"])
    sent = pickle.dumps(dataset)
    assert len(sent) < 20_000
    theirs, ours = pickle.loads(sent).load(3, None), dataset.load(3, None)
    assert all(np.array_equal(theirs[name], ours[name]) for name in ours)


def test_whole_numbers_and_doubles_become_float32(data: Path) -> None:
    np.save(data / "text.npy", np.arange(480, dtype=np.int64).reshape(240, 2))
    np.save(data / "audio.npy", np.load(data / "audio.npy").astype(np.float64))
    recordings = read(data)
    item = RecordingDataset(recordings, recordings.parts["train"]).load(0, None)
    assert [str(item[name].dtype) for name in ("video", "audio", "text")] == [
        "torch.uint8",
        "torch.float32",
        "torch.float32",
    ]


def replace(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / f"{name}.npy", change(np.load(folder / f"{name}.npy")))


def with_nan(values: Any) -> Any:
    values[17, 2] = np.nan
    return values


def edit(before: str, after: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "dataset.yaml").write_text(
        (folder / "dataset.yaml").read_text().replace(before, after)
    )


def damaged_header(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / f"{name}.npy").read_bytes()
        (folder / f"{name}.npy").write_bytes(content.replace(b"}", b" ", 1))

    return damage


BAD_DATA: list[tuple[Callable[[Path], Any], str]] = [
    (lambda folder: (folder / "text.npy").unlink(), r"text\.npy: there is no such file"),
    (
        lambda folder: (folder / "text.npy").write_text("hello"),
        r"text\.npy: is no array that can be read \(it is no \.npy file\)\. Save it with numpy\.save",
    ),
    (
        lambda folder: (folder / "audio.npy").write_bytes(b""),
        r"audio\.npy: is no array that can .* \(the file is empty\)",
    ),
    (damaged_header("audio"), r"audio\.npy: is no array that can be read"),
    (lambda folder: np.save(folder / "text.npy", np.array(["a"] * 240)[:, None]), r"text\.npy: holds <U1 of shape"),
    (replace("text", lambda values: values[:, :0]), r"text\.npy: holds float32 of shape \(240, 0\)"),
    (replace("text", lambda values: values[:, 0]), r"text\.npy: holds float32 of shape \(240,\)"),
    (replace("video", lambda values: values[..., None]), r"video\.npy: has the shape \(240, 3, 24, 24, 1\)"),
    (
        replace("subject_02", lambda v: v[..., None]),
        r"subject_02\.npy: has the shape .* Responses are \(time, voxels\)",
    ),
    (replace("audio", lambda values: values[:-1]), r"audio\.npy: has 239 samples, video\.npy has 240"),
    (replace("subject_01", with_nan), r"subject_01\.npy: has NaN or infinity at time 17"),
    (replace("text", lambda values: values / 0), r"text\.npy: has NaN or infinity at time 0"),
    (
        replace("text", lambda values: np.where(np.arange(240)[:, None] < 9, values.astype(float), 1e39)),
        r"text\.npy: has a number beyond those of float32 at time 9",
    ),
    (lambda folder: (folder / "dataset.yaml").unlink(), r"fmri: has no dataset\.yaml"),
    (edit("tr: 2.0", "tr: -1"), r"dataset\.yaml:2, tr: must be .*, is -1"),
    (edit("tr: 2.0", "TR: 2.0"), r"dataset\.yaml: unknown key 'TR'"),
    (edit("[video,", "[../video,"), r"dataset\.yaml: '\.\./video' cannot be the name of an array"),
    (edit("[video,", "[fmri,"), r"'fmri' cannot be the name of an array"),
    (edit("[video,", "[audio,"), r"dataset\.yaml: 'audio' stands there twice"),
    (edit("subject_01,", "video,"), r"dataset\.yaml: 'video' stands there twice"),
]


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize(("damage", "message"), BAD_DATA, ids=[message for _, message in BAD_DATA])
def test_bad_data_is_told_in_one_line(data: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(data)
    with pytest.raises(DataError, match=message) as caught:
        read(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("division", "changes", "message"),
    [
        (TIME, {"modalities": ["vidio"]}, r"data\.modalities: 'vidio' is not in dataset.yaml. Did you mean 'video'"),
        (TIME, {"subjects": []}, r"data\.subjects: names nothing"),
        (Division("time", 3, 3, 0.2, 1, 20, None), {}, r"data\.fold: is 3, but there are 3 folds"),
        (Division("time", 0, 3, 0.2, 1, 20, 2), {}, r"data\.gap: is 2: .* Set it to at least .*, here 3, or to auto"),
        (Division("time", 0, 9, 0.5, 1, 40, None), {}, r"data\.block_length: gives 6 blocks of the 237 samples"),
        (TIME, {"delay": 500}, r"data\.delay: is 500, which leaves 0 of 240 samples, too few for .* to at most 48, or"),
        (TIME, {"window": 300}, r"data\.window: is 300, which leaves 0 of 240 samples, too few .* to at most 48, or"),
        (TIME, {"delay": 46}, r"data\.delay: is 46, which leaves 192 of 240 samples, too few for 3 folds"),
        (
            TIME,
            {"delay": 45},
            r"data\.gap: is 96 \(auto\) and leaves nothing of blocks of 48, .* Set it to at most 47, or",
        ),
        (SUBJECT, {"delay": 238}, r"data\.delay: is 238, which leaves 0 of 240 samples\. .* to at most 240\."),
        (Division("subject", 0, 5, 0.2, 1, 20, None), {}, r"data\.folds: is too large: 5 cannot be divided"),
        (Division("subject", 0, 1, 0.2, 1, 20, None), {}, r"data\.folds: leaves nothing to train on of 5 subjects"),
    ],
)
def test_keys_that_do_not_suit_the_data_are_told(
    original: Path, division: Division, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(original, division, **changes)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MltrainError, match=r"there is no such folder\. Set data\.data_dir"):
        read(tmp_path / "nothing")


def test_ceilings_are_read_and_checked(data: Path) -> None:
    assert {name: values.shape for name, values in read(data).ceilings.items()} == dict.fromkeys(
        [f"subject_0{number}" for number in range(1, 6)], (6,)
    )
    (data / "subject_02_ceiling.npy").unlink()
    assert "subject_02" not in read(data).ceilings
    np.save(data / "subject_01_ceiling.npy", np.zeros(5))
    with pytest.raises(DataError, match=r"subject_01_ceiling\.npy: holds float64 of shape \(5,\)"):
        read(data)
    for content in (b"hello", b""):
        (data / "subject_01_ceiling.npy").write_bytes(content)
        with pytest.raises(DataError, match=r"subject_01_ceiling\.npy: is no array that can be read"):
            read(data)


def test_the_delay_of_the_folder_is_told_as_its_own(data: Path) -> None:
    edit("delay: 1", "delay: 7000")(data)
    with pytest.raises(
        ConfigError, match=r"data\.delay: is 7000, as dataset\.yaml says, which leaves 0 of 240 samples"
    ):
        read(data)


@pytest.mark.parametrize(("delay", "window"), [(45, 3), (0, 48), (30, 18)])
def test_the_advice_on_a_delay_and_its_gap_works(original: Path, delay: int, window: int) -> None:
    """48 is the most that the refusal of a longer delay allows here."""
    division = Division("time", 0, 3, 0.2, 1, 48, delay + window - 1)
    assert all(len(part.times) for part in read(original, division, delay=delay, window=window).parts.values())
