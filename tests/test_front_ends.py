"""Front ends: librosa's log-mel to the last bit, whatever the number of threads."""

import sys

import librosa
import numpy as np
import pytest
import soundfile
from synthetic import REPOSITORY, make_settings, run, write_clip

from common import InputError
from datasets.front_ends import clip_frames, extract, make_front_end, sample_frames

MAKE_FEATURES = """
import hashlib, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[1] + "/tests")
from datasets.front_ends import extract, make_front_end
from synthetic import make_settings
for frames in extract([Path(name) for name in sys.argv[2:]], make_front_end(make_settings())):
    print(frames.shape, hashlib.sha256(frames.tobytes()).hexdigest())
"""


@pytest.fixture
def clips(tmp_path):
    """Return clips of unequal length."""
    paths = [tmp_path / f"clip {i}.wav" for i in range(6)]
    for i, path in enumerate(paths):
        write_clip(path, i, seconds=1 + 0.7 * i)
    return paths


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"n_mels": 64, "n_fft": 512, "hop_length": 256},
        {"power": 1.0, "fmin": 100.0, "fmax": 4000.0, "win_length": 800},
    ],
)
def test_frames_are_librosas_to_the_last_bit(clips, values):
    config = make_settings(**values)
    front_end = make_front_end(config)
    for path, frames in zip(clips, extract(clips, front_end), strict=True):
        samples, rate = librosa.load(path, sr=None, mono=True)
        mel = librosa.feature.melspectrogram(
            y=samples,
            sr=rate,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            n_mels=config.n_mels,
            power=config.power,
            fmin=config.fmin,
            fmax=config.fmax,
            win_length=config.win_length,
        )
        expected = 20.0 / config.power * np.log10(np.maximum(mel, sys.float_info.epsilon))
        assert frames.dtype == np.float32
        np.testing.assert_array_equal(frames, expected.T)
        assert frames.shape == (front_end.n_frames(len(samples)), front_end.n_bins)


def test_frames_have_the_same_bytes_with_any_number_of_threads(clips):
    outputs = {
        run(sys.executable, "-c", MAKE_FEATURES, REPOSITORY, *clips, OMP_NUM_THREADS=n, OPENBLAS_NUM_THREADS=n).stdout
        for n in ("1", "2", "")
    }
    assert len(outputs) == 1
    assert outputs.pop().count("128)") == len(clips)


def test_the_first_of_two_channels_is_used(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (8000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "both.wav", samples, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "first.wav", samples[:, 0], 16000, subtype="FLOAT")
    front_end = make_front_end(make_settings())
    both, first = (clip_frames(tmp_path / f"{name}.wav", front_end) for name in ("both", "first"))
    np.testing.assert_array_equal(both, first)


def test_digital_silence_is_the_logarithm_of_epsilon(tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(8000), 16000)
    frames = clip_frames(tmp_path / "silence.wav", make_front_end(make_settings()))
    assert frames.dtype == np.float32
    np.testing.assert_array_equal(frames, np.float32(10 * np.log10(np.float32(sys.float_info.epsilon))))


def test_samples_too_large_to_compute_with_are_reported(tmp_path):
    samples = np.full(8000, 3e38, dtype=np.float32)
    with pytest.raises(InputError, match=r"the clip holds samples up to 3\.0e\+38, too large to compute with"):
        sample_frames(samples, 16000, make_front_end(make_settings()))


def test_mel_bands_without_a_bin_are_reported_in_one_sentence(clips, capsys, recwarn):
    front_end = make_front_end(make_settings(n_mels=512, fmax=8000.0))
    for path in clips[:2]:
        clip_frames(path, front_end)
    assert len(recwarn) == 0
    assert capsys.readouterr().err == (
        "warning: 47 of 512 mel bands are empty, too narrow for n_fft 1024 at 16000 Hz; lower --n_mels or raise "
        "--n_fft\n"
    )
