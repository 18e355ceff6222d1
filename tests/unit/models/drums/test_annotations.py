"""Annotations as data sets write them, and as people do."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from serve_app.errors import InvalidRequest
from serve_app.models.drums.annotations import drum_of, pair_files, read_annotation
from serve_app.results import Drum


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("labels", "drum"),
    [
        (["KD", "kick", "Bass Drum", "BD", "35", "36"], Drum.KICK),
        (["SD", "snare", "SDB", "SDD", "SDF", "SDG", "SDNS", "38", "40", "rs"], Drum.SNARE),
        (["HH", "hihat", "Hi-Hat", "CHH", "OHH", "PHH", "42", "44", "46"], Drum.HIHAT),
        # cross-stick, toms, cymbals, tambourine, other: as MDB Drums and General MIDI have them
        (["SST", "37", "39", "41", "43", "45", "49", "51", "TT", "CY", "OT", "HIT", "RDC", "TMB", "", "drum"], None),
    ],
)
def test_labels(labels: list[str], drum: Drum | None) -> None:
    assert [drum_of(label) for label in labels] == [drum] * len(labels)


@pytest.mark.parametrize(
    "content",
    [
        "0.5\tKD\n1.25\tSD\n",
        "0.5 KD\n1.25 SD",
        "0.5,KD\r\n1.25,SD\r\n",
        "  0.5 \t KD \n\n\n 1.25   \t SD\t\n",
        "\ufeff0.5;KD\n1.25;SD\n",
        "time,label\n0.5,kick\n1.25,snare\n",
        "# by hand\n% again\n0.5\t36\n1.25\t38\n",
        "onset\tdrum\n# with a comment\n5e-1\t'KD'\n+1.25\t\"SD\"\n",
        "1.25\tSDG\n0.5\tKD\n",
        "0.5\t0.6\tKD\n1.25\t1.3\tSD\n",  # Audacity: start, end, label
        "0.5 36 100\n1.25 38 90\n",  # time, note, velocity
        "0.5 bass drum\n1.25 snare drum\n",
        "0.5\tKD\tloud\n1.25\tSD\tquiet\n",
        "0.5\tKD\r1.25\tSD\r",
        "0.5\tKD\n1.25\tSD\n".encode("utf-16"),
    ],
)
def test_ways_to_write_the_same(tmp_path: Path, content: str | bytes) -> None:
    found = read_annotation(written(tmp_path / "a.txt", content))
    assert found.times_s == {Drum.KICK: (0.5,), Drum.SNARE: (1.25,), Drum.HIHAT: ()}
    assert found.left_out == {}


def test_other_labels_are_left_out_and_counted(tmp_path: Path) -> None:
    content = b"0 CHH\n0.1 TT\n0.2 SST\n0.3 TT\n0.4\tfloor tom\t?\n0.5 51\n0.6 caf\xe9\n"
    found = read_annotation(written(tmp_path / "a.txt", content))
    assert found.times_s[Drum.HIHAT] == (0.0,)
    assert found.left_out == {"TT": 2, "SST": 1, "floor tom": 1, "51": 1, "caf\ufffd": 1}


def test_uncertain_strokes_are_apart(tmp_path: Path) -> None:
    content = "0.5\tkick\n0.4\tkick\t?\n0.7 hihat ?\n0.3 hihat ?\n0.9 tom ?\n1.0\t?\n"
    found = read_annotation(written(tmp_path / "a.txt", content))
    assert found.times_s == {Drum.KICK: (0.5,), Drum.SNARE: (), Drum.HIHAT: ()}
    assert found.uncertain_s == {Drum.KICK: (0.4,), Drum.SNARE: (), Drum.HIHAT: (0.3, 0.7)}
    assert found.left_out == {"tom": 1, "?": 1}


@pytest.mark.parametrize("content", ["", "\n\n", "time\tlabel\n"])
def test_nothing_is_played(tmp_path: Path, content: str) -> None:
    assert read_annotation(written(tmp_path / "a.txt", content)).times_s == dict.fromkeys(Drum, ())


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("0.5\tKD\nSD\t1.0\n", "line 2"),
        ("0.5\tKD\n1.0\n", "line 2"),
        ("-0.5\tKD\n", "line 1"),
        ("1e999\tKD\n", "line 1"),
        ("0.5\tKD\n0,7,8\tSD\nnan SD", "line 3"),
        ("a\nb\nc\nd\ne\nf\n0.5 KD\n", "line 6"),
    ],
)
def test_what_is_no_annotation_is_told_by_its_line(tmp_path: Path, content: str, line: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"a\.txt, {line}: "):
        read_annotation(written(tmp_path / "a.txt", content))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="can't be read"):
        read_annotation(tmp_path / "gone.txt")


class TestPairing:
    @pytest.fixture
    def folders(self, tmp_path: Path) -> tuple[Path, Path]:
        audio, annotations = tmp_path / "audio", tmp_path / "annotations"
        audio.mkdir()
        annotations.mkdir()
        return audio, annotations

    def paired(self, folders: tuple[Path, Path], audio: list[str], annotations: list[str]) -> dict[str, str]:
        for folder, names in zip(folders, (audio, annotations), strict=True):
            for name in names:
                (folder / name).touch()
        found = pair_files(*folders)
        assert len(found.pairs) + len(found.audio_alone) == len(audio)
        pairs = {recording.name: annotation.name for recording, annotation in found.pairs}
        self.alone = {path.name for path in (*found.audio_alone, *found.annotations_alone)}
        return pairs

    def test_mdb_drums(self, folders: tuple[Path, Path]) -> None:
        names = ["MusicDelta_80sRock", "MusicDelta_Rock", "MusicDelta_Rockabilly", "MusicDelta_FunkJazz"]
        pairs = self.paired(folders, [f"{name}_Drum.wav" for name in names], [f"{name}_class.txt" for name in names])
        assert pairs == {f"{name}_Drum.wav": f"{name}_class.txt" for name in names}
        assert self.alone == set()

    def test_classes_are_taken_before_subclasses(self, folders: tuple[Path, Path]) -> None:
        assert self.paired(folders, ["X_MIX.wav"], ["X_class.txt", "X_subclass.txt"]) == {"X_MIX.wav": "X_class.txt"}
        assert self.alone == set()

    def test_same_names(self, folders: tuple[Path, Path]) -> None:
        pairs = self.paired(folders, ["one.wav", "Two.FLAC", "notes.pdf"][:2], ["one.csv", "two.tsv"])
        assert pairs == {"one.wav": "one.csv", "Two.FLAC": "two.tsv"}

    def test_several_mixes_of_one_recording(self, folders: tuple[Path, Path]) -> None:
        pairs = self.paired(folders, ["X_Drum.wav", "X_MIX.wav"], ["X_class.txt"])
        assert pairs == {"X_Drum.wav": "X_class.txt", "X_MIX.wav": "X_class.txt"}

    def test_longest_beginning(self, folders: tuple[Path, Path]) -> None:
        pairs = self.paired(folders, ["jam_take2_room-mic.wav"], ["jam.txt", "jam_take2.txt"])
        assert pairs == {"jam_take2_room-mic.wav": "jam_take2.txt"}
        assert self.alone == {"jam.txt"}

    @pytest.mark.parametrize(
        ("audio", "annotations"),
        [
            (["jam_1.wav", "jam_2.wav"], ["jam.txt"]),
            (["jam.wav"], ["jam_1.txt", "jam_2.txt"]),
            (["jam10.wav"], ["jam1.txt"]),
        ],
    )
    def test_what_is_not_certain_stays_alone(
        self, folders: tuple[Path, Path], audio: list[str], annotations: list[str]
    ) -> None:
        assert self.paired(folders, audio, annotations) == {}
        assert self.alone == {*audio, *annotations}

    def test_an_annotation_that_has_its_recording_is_not_given_to_another(self, folders: tuple[Path, Path]) -> None:
        assert self.paired(folders, ["Rock_Drum.wav", "Rock_Live_Drum.wav"], ["Rock_class.txt"]) == {
            "Rock_Drum.wav": "Rock_class.txt"
        }
        assert self.alone == {"Rock_Live_Drum.wav"}

    @pytest.mark.parametrize(
        ("audio", "annotation"),
        [
            (unicodedata.normalize("NFD", "드럼 루프.wav"), "드럼 루프.txt"),
            ("드럼 루프.wav", unicodedata.normalize("NFD", "드럼 루프_class.txt")),
            (unicodedata.normalize("NFD", "Café_Drum.wav"), "café.tsv"),
            ("드럼.wav", "ab12cd34-드럼.txt"),
            ("AB12CD34-드럼.wav", unicodedata.normalize("NFD", "드럼.txt")),
            ("드럼.wav", "ab12cd34-%EB%93%9C%EB%9F%BC.txt"),
            ("%EB%93%9C%EB%9F%BC.wav", "드럼.txt"),
            ("take%201_Drum.wav", "ab12cd34-Take 1.csv"),
        ],
    )
    def test_names_as_macos_and_label_studio_write_them(
        self, folders: tuple[Path, Path], audio: str, annotation: str
    ) -> None:
        assert self.paired(folders, [audio, "other.wav"], [annotation, "another.txt"]) == {audio: annotation}

    def test_digits_in_front_tell_recordings_apart(self, folders: tuple[Path, Path]) -> None:
        names = ["aaaaaaaa-loop", "bbbbbbbb-loop"]
        pairs = self.paired(folders, [f"{name}.wav" for name in names], [f"{name}.txt" for name in names])
        assert pairs == {f"{name}.wav": f"{name}.txt" for name in names}

    @pytest.mark.parametrize(
        ("audio", "annotations"),
        [
            (["aaaaaaaa-loop.wav", "bbbbbbbb-loop.wav"], ["loop.txt"]),
            (["loop.wav"], ["aaaaaaaa-loop.txt", "bbbbbbbb-loop.txt"]),
        ],
    )
    def test_uploads_of_one_name_stay_alone(
        self, folders: tuple[Path, Path], audio: list[str], annotations: list[str]
    ) -> None:
        assert self.paired(folders, audio, annotations) == {}

    def test_one_folder_for_both(self, tmp_path: Path) -> None:
        for name in ("a.wav", "a.txt", "._a.wav", "b.wav"):
            (tmp_path / name).touch()
        found = pair_files(tmp_path, tmp_path)
        assert found.pairs == ((tmp_path / "a.wav", tmp_path / "a.txt"),)
        assert found.audio_alone == (tmp_path / "b.wav",)

    def test_wrong_folders(self, folders: tuple[Path, Path], tmp_path: Path) -> None:
        with pytest.raises(InvalidRequest, match="is not a folder"):
            pair_files(tmp_path / "gone", tmp_path)
        with pytest.raises(InvalidRequest, match="holds no recordings"):
            pair_files(*folders)
        (folders[0] / "a.wav").touch()
        with pytest.raises(InvalidRequest, match="holds no annotations"):
            pair_files(*folders)
