"""Recordings: formats, damaged files and odd names work or are reported, and none gives other samples silently."""

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
    ("begin", "end", "new", "sentence"),  # bytes of the file that are replaced
    [
        (0, None, b"", "cannot be read as audio"),
        (44, None, b"", "is empty (no samples)"),
        (9000, None, b"", "truncated: its header says 16000 bytes of samples, but there are 8956"),
        (40, 44, b"\0\0\0\x3b", "truncated: its header says"),  # 10^9 bytes
        (24, 28, bytes(4), "cannot be read as audio"),
    ],
)
def test_damaged_recordings_are_reported(call_train, workplace, options, begin, end, new, sentence):
    path = max((machine_folder(workplace / "data") / "train").iterdir())
    content = bytearray(path.read_bytes())
    content[begin:end] = new
    path.write_bytes(content)
    error = error_of(call_train(*options))
    assert sentence in error and path.name in error


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
    content, info = bytearray(path.read_bytes()), b"LIST\x0e\0\0\0INFOISFT\2\0\0\0x\0"
    content[4:8], content[40:44] = (number.to_bytes(4, "little") for number in (riff, data))
    other.write_bytes(content[:36] + info + content[36:])
    features = load_features(list_clips(tmp_path)[0], make_front_end(make_settings()), 1, tmp_path / "cache", True)
    np.testing.assert_array_equal(*np.split(np.array(features.frames), 2))  # headers and samples agree
    assert read_header(other) == read_header(path)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "AIFF"])
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
    folder = machine_folder(workplace / "data")
    for path, suffix in zip(
        sorted(folder.glob("train/*")), [" a b", "'q'", '"d"', "é日本", "--help", "a,b"], strict=True
    ):
        path.rename(path.with_name(f"{path.stem}_{suffix}.wav"))
    first, anomalous = min(folder.glob("train/*")), min(folder.glob("test/*anomaly*"))
    first.rename(workplace / "elsewhere.wav")
    first.symlink_to(workplace / "elsewhere.wav")
    anomalous.rename(anomalous.with_name(anomalous.stem + '_a,b "c".wav'))
    (workplace / "data").rename(workplace / "-the data")
    (workplace / "data").symlink_to(workplace / "-the data")
    succeed(call_train(*options))
    (scores,) = workplace.glob("results/*/*/anomaly_score*")
    assert '_a,b ""c"".wav",' in scores.read_text()
