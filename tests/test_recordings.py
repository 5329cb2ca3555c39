"""Recordings: formats, damaged files and odd names work or are reported, and none gives other samples silently."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from synthetic import machine_folder, make_settings

from datasets.audio import read_header, read_samples
from datasets.cache import load_features
from datasets.clips import list_clips
from datasets.front_ends import make_front_end
from tools.runtime import files


@pytest.mark.parametrize(
    ("kind", "subtype", "rate", "channels", "sentence"),
    [
        ("WAV", "PCM_U8", 16000, 1, None),
        ("WAV", "PCM_24", 16000, 1, None),
        ("WAV", "FLOAT", 16000, 1, None),
        ("WAV", "PCM_16", 44100, 1, None),
        ("FLAC", "PCM_16", 16000, 1, None),
        ("WAV", "PCM_16", 16000, 2, "has 2 channels"),
    ],
)
def test_formats_work_or_are_reported(call_train, workplace, options, kind, subtype, rate, channels, sentence):
    for i, path in enumerate(sorted(machine_folder(workplace / "data").rglob("*.wav"))):
        samples = np.random.default_rng(i).uniform(-0.5, 0.5, (rate // 2, channels))
        soundfile.write(path, samples, rate, format=kind, subtype=subtype)
    outcome = call_train(*options)
    assert outcome.status == (0 if sentence is None else 1), outcome.err
    assert sentence is None or sentence in outcome.err


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda content: b"", "(no bytes)"),
        (lambda content: content[:44], "truncated: its header says 16000 bytes of samples, but there are 0"),
        (lambda content: content[:9000], "truncated: its header says 16000 bytes of samples, but there are 8956"),
        (lambda content: content[:40] + (10**9).to_bytes(4, "little") + content[44:], "truncated: its header says"),
        (lambda content: content[:40] + (2).to_bytes(4, "little") + b"\0\1", "too short: 1 frame, but"),
        (lambda content: content[:24] + bytes(4) + content[28:], "cannot be read as audio"),
    ],
)
def test_damaged_recordings_are_reported(call_train, workplace, options, damage, sentence):
    path = sorted((machine_folder(workplace / "data") / "train").iterdir())[1]
    path.write_bytes(damage(path.read_bytes()))
    outcome = call_train(*options)
    assert outcome.status == 1
    assert sentence in outcome.err
    assert path.name in outcome.err


def streamed_flac(n_samples: int, claimed: int) -> bytes:
    """Return noise as FLAC whose header claims another number of samples; 0: unknown, as when written to a pipe."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(0).uniform(-0.5, 0.5, n_samples), 16000, format="FLAC")
    content = bytearray(buffer.getvalue())
    content[21:26] = (content[21] >> 4 << 36 | claimed).to_bytes(5, "big")  # 36 bits of the STREAMINFO block
    return bytes(content)


@pytest.fixture
def load_frames(tmp_path):
    """Load the frames of a folder's training clips."""

    def load(folder: Path) -> np.ndarray:
        front_end = make_front_end(make_settings())
        features = load_features(list_clips(folder)[0], front_end, 1, tmp_path / "cache", True)
        return np.array(features.frames)

    return load


def test_streamed_flac_gives_the_same_features(load_frames, tmp_path):
    clip = tmp_path / "section_00_source_train_normal_0000_spd_1.wav"
    frames = {}
    for claimed in (2_000_000, 0):
        clip.write_bytes(streamed_flac(2_000_000, claimed))  # more than one block
        frames[claimed] = load_frames(tmp_path)
    np.testing.assert_array_equal(frames[0], frames[2_000_000])


@pytest.mark.parametrize("claimed", [8001, 2**31, 2**33, 2**36 - 1])
def test_flac_that_claims_too_many_samples_is_reported(load_frames, tmp_path, claimed):
    clip = tmp_path / "section_00_source_train_normal_0000_spd_1.wav"
    clip.write_bytes(streamed_flac(8000, claimed))
    with pytest.raises(files.InputError, match=f"{clip} (claims {claimed} samples|cannot be read as audio)"):
        load_frames(tmp_path)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "FLAC"])
def test_no_bit_of_a_header_changes_the_samples_silently(tmp_path, kind):
    samples, buffer, path = np.random.default_rng(0).uniform(-0.5, 0.5, 8000), io.BytesIO(), tmp_path / "clip.wav"
    soundfile.write(buffer, samples, 16000, format=kind, subtype="PCM_16")
    whole = buffer.getvalue()
    path.write_bytes(whole)
    header, expected = read_header(path), read_samples(path)[0]
    n_refused = 0
    for bit in range(8 * (42 if kind == "FLAC" else len(whole) - 16000)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            found = read_header(path)
            if (found.sampling_rate, found.channels) == (16000, 1):
                np.testing.assert_array_equal(read_samples(path)[0], expected)
                assert replace(found, surplus=0) == header, bit
        except files.InputError:
            n_refused += 1
    assert n_refused > 100


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "AIFF"])
def test_a_clip_longer_than_its_header_says_is_reported(load_frames, tmp_path, capsys, kind):
    samples, buffer = np.random.default_rng(0).uniform(-0.5, 0.5, 8000), io.BytesIO()
    soundfile.write(buffer, samples, 16000, format=kind, subtype="PCM_16")
    content = buffer.getvalue()
    clip = tmp_path / "section_00_source_train_normal_0000_spd_1.wav"
    clip.write_bytes(content)
    load_frames(tmp_path)
    assert "warning" not in capsys.readouterr().out
    clip.write_bytes(content[:-15990] + b"\1\0\3" + content[-15990:])
    load_frames(tmp_path)
    assert f"warning: the file is longer than its header says for 1 of 1 clips, {clip} for" in capsys.readouterr().out


def test_odd_names_links_and_folders_work(call_train, workplace, options):
    folder = machine_folder(workplace / "data") / "train"
    for path, suffix in zip(sorted(folder.iterdir()), [" a b", "'q'", '"d"', "é日本", "--help", "a,b"], strict=False):
        path.rename(path.with_name(f"{path.stem}_{suffix}.wav"))
    first = sorted(folder.iterdir())[0]
    shutil.move(first, workplace / "elsewhere.wav")
    first.symlink_to(workplace / "elsewhere.wav")
    (workplace / "data").rename(workplace / "-the data")
    (workplace / "data").symlink_to(workplace / "-the data")
    test = machine_folder(workplace / "data") / "test"
    anomalous = next(test.glob("*anomaly*"))
    anomalous.rename(anomalous.with_name(anomalous.stem + '_a,b "c".wav'))
    assert call_train(*options).status == 0
    scores = next((workplace / "results").rglob("anomaly_score*")).read_text()
    assert '_a,b ""c"".wav",' in scores


def test_a_name_with_a_line_break_is_reported(call_train, workplace, options):
    path = next((machine_folder(workplace / "data") / "test").iterdir())
    path.rename(path.with_name(path.stem + "_a\nb.wav"))
    outcome = call_train(*options, "--test_only")
    assert outcome.status == 1
    assert "has a name with a control character such as a line break" in outcome.err
