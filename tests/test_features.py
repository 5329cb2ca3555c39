"""Features: librosa's numbers to the last bit, whatever the number of threads."""

import sys

import librosa
import numpy as np
import pytest
import soundfile
from synthetic import REPOSITORY, run, write_clip

from datasets.features import FeatureConfig, extract, log_mel

MAKE_FEATURES = """
import hashlib, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from datasets.features import FeatureConfig, extract
for frames in extract([Path(name) for name in sys.argv[2:]], FeatureConfig()):
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
    "config",
    [
        FeatureConfig(),
        FeatureConfig(n_mels=64, n_fft=512, hop_length=256),
        FeatureConfig(power=1.0, fmin=100.0, fmax=4000.0, win_length=800),
    ],
)
def test_frames_are_librosas_to_the_last_bit(clips, config):
    for path, frames in zip(clips, extract(clips, config), strict=True):
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
    np.testing.assert_array_equal(
        log_mel(tmp_path / "both.wav", FeatureConfig(channels=2)), log_mel(tmp_path / "first.wav", FeatureConfig())
    )


def test_digital_silence_is_the_logarithm_of_epsilon(tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(8000), 16000)
    frames = log_mel(tmp_path / "silence.wav", FeatureConfig())
    assert frames.dtype == np.float32
    np.testing.assert_array_equal(frames, np.float32(10 * np.log10(np.float32(sys.float_info.epsilon))))
