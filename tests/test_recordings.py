"""Recordings: formats, damaged files and odd names work or are reported, and none gives other samples silently."""

import shutil

import numpy as np
import pytest
import soundfile
from synthetic import error_of, machine_folder, make_settings, succeed, write_clip

from datasets.audio import read_header, read_samples
from datasets.cache import load_features
from datasets.clips import list_clips
from datasets.front_ends import make_front_end
from runtime import files


def test_recordings_may_have_any_format_and_rate(call_train, workplace, options):
    formats = ("WAV PCM_U8", "WAV PCM_24", "WAV FLOAT", "WAV PCM_16", "FLAC PCM_16")
    for i, path in enumerate(sorted(machine_folder(workplace / "data").rglob("*.wav"))):
        kind, subtype = formats[i % len(formats)].split()
        samples = np.random.default_rng(i).uniform(-0.5, 0.5, 22050)
        soundfile.write(path, samples, 44100, format=kind, subtype=subtype)
    succeed(call_train(*options))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda content: b"", "cannot be read as audio"),
        (lambda content: content[:44], "is empty (no samples)"),
        (lambda content: content[:9000], "truncated: its header says 16000 bytes of samples, but there are 8956"),
        (lambda content: content[:40] + (10**9).to_bytes(4, "little") + content[44:], "truncated: its header says"),
        (lambda content: content[:40] + (2).to_bytes(4, "little") + b"\0\1", "too short: 1 frame, but"),
        (lambda content: content[:24] + bytes(4) + content[28:], "cannot be read as audio"),
        (lambda content: content[:22] + b"\2\0" + content[24:], "has 2 channels, but this challenge's clips have 1"),
    ],
)
def test_damaged_recordings_are_reported(call_train, workplace, options, damage, sentence):
    path = sorted((machine_folder(workplace / "data") / "train").iterdir())[1]
    path.write_bytes(damage(path.read_bytes()))
    err = error_of(call_train(*options))
    assert sentence in err
    assert path.name in err


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (0xFFFFFFFF, 0xFFFFFFFF),  # ffmpeg
        (0x80000024, 0x80000000),  # arecord
        (0x7FFFF024, 0x7FFFF000),  # SoX
        (0x7FFFFFFF, 0x7FFFFFFF - 36),
    ],
)
def test_recordings_written_to_a_pipe_are_read_to_their_end(tmp_path, riff, data):
    path, other = (tmp_path / f"section_00_source_train_normal_000{i}.wav" for i in range(2))
    write_clip(path, 0)
    content = path.read_bytes()
    info = b"LIST\x0e\0\0\0INFOISFT\2\0\0\0x\0"
    head = b"RIFF" + riff.to_bytes(4, "little") + content[8:36] + info + b"data" + data.to_bytes(4, "little")
    other.write_bytes(head + content[44:])
    clips, front_end = list_clips(tmp_path)[0], make_front_end(make_settings())
    features = load_features(clips, front_end, 1, tmp_path / "cache", True)  # headers and samples agree
    first, second = np.split(np.array(features.frames), 2)
    np.testing.assert_array_equal(first, second)
    assert read_header(other) == read_header(path)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_header_and_samples_agree_whatever_bit_of_the_header_is_wrong(tmp_path, kind):
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 800), 16000, format=kind, subtype="PCM_16")
    whole, n_refused = path.read_bytes(), 0
    for bit in range(8 * (len(whole) - 1600)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            assert read_header(path).n_samples == len(read_samples(path)[0])
        except files.InputError:
            n_refused += 1
    assert n_refused > 100


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
    succeed(call_train(*options))
    scores = next((workplace / "results").rglob("anomaly_score*")).read_text()
    assert '_a,b ""c"".wav",' in scores


def test_a_name_with_a_line_break_is_reported(call_train, workplace, options):
    path = next((machine_folder(workplace / "data") / "test").iterdir())
    path.rename(path.with_name(path.stem + "_a\nb.wav"))
    assert "has a name with characters that cannot be printed, such as a line break" in error_of(
        call_train(*options, "--test_only")
    )
