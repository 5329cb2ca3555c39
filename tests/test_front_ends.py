"""Front ends: librosa's log-mel to the last bit, whatever the number of threads."""

import random
import sys

from common import InputError

import librosa
import numpy as np
import pytest
from synthetic import make_settings, write_clip
from threadpoolctl import threadpool_limits

from datasets.front_ends import clip_frames, extract, make_front_end, sample_frames


@pytest.fixture
def clips(tmp_path):
    """Return clips of unequal length."""
    paths = [tmp_path / f"clip {i}.wav" for i in range(6)]
    for i, path in enumerate(paths):
        write_clip(path, i, seconds=1 + 0.7 * i)
    return paths


def librosa_frames(samples, rate, settings):
    """Return librosa's log-mel energies as the reference calls it: (n_frames, n_mels)."""
    names = "n_fft hop_length n_mels power fmin fmax win_length".split()
    values = {name: getattr(settings, name) for name in names}
    mel = librosa.feature.melspectrogram(y=samples, sr=rate, **values)
    return (20.0 / settings.power * np.log10(np.maximum(mel, sys.float_info.epsilon))).T


@pytest.mark.filterwarnings("ignore:n_fft=:UserWarning", "ignore:Empty filters:UserWarning")  # librosa's
@pytest.mark.parametrize("seed", range(40))
def test_frames_are_librosas_to_the_last_bit_with_any_parameters(seed):
    rng = random.Random(seed)
    rate, n_fft = rng.choice([8000, 16000, 22050, 44100]), rng.choice([256, 1000, 1024, 2048, 2 * rng.randint(8, 1499)])
    values = {
        "n_fft": n_fft,
        "hop_length": rng.randrange(n_fft // 8, n_fft),
        "win_length": rng.choice([None, rng.randrange(1, n_fft)]),
        "n_mels": rng.choice([20, 64, 128, 256]),
        "power": rng.choice([1.0, 1.5, 2.0]),
        "fmin": rng.choice([0.0, 50.0, 1500.0]),
        "fmax": rng.choice([None, rng.uniform(2000, rate / 2)]),
    }
    noise = np.random.default_rng(seed).standard_normal(rng.randrange(1, 40000))
    samples = (noise * 10 ** rng.uniform(-5, 0)).astype(np.float32)
    front_end = make_front_end(make_settings(**values))
    with threadpool_limits(1, user_api="blas"):
        frames = sample_frames(samples, rate, front_end)
        np.testing.assert_array_equal(frames, librosa_frames(samples, rate, front_end.settings))
    assert (frames.dtype, frames.shape) == (np.float32, (front_end.n_frames(len(samples)), front_end.n_bins))


@pytest.mark.parametrize("n_threads", [1, 2])
def test_frames_of_clips_are_librosas_with_any_number_of_threads(clips, n_threads):
    front_end = make_front_end(make_settings())
    with threadpool_limits(n_threads):
        for path, frames in zip(clips, extract(clips, front_end), strict=True):
            samples, rate = librosa.load(path, sr=None, mono=True)
            np.testing.assert_array_equal(frames, librosa_frames(samples, rate, front_end.settings))


def test_digital_silence_is_the_logarithm_of_epsilon():
    frames = sample_frames(np.zeros(8000, dtype=np.float32), 16000, make_front_end(make_settings()))
    np.testing.assert_array_equal(frames, np.float32(10 * np.log10(np.float32(sys.float_info.epsilon))))


def test_band_edges_are_where_the_mel_bands_begin_peak_and_end():
    values = {"n_fft": 16000, "n_mels": 20, "fmin": 100.0, "fmax": 4000.0}  # a bin of 1 Hz
    edges = make_front_end(make_settings(**values)).edges(16000)
    bands = [
        (inside[0], band.argmax(), inside[-1])
        for band in librosa.filters.mel(sr=16000, **values)
        for inside in np.nonzero(band)
    ]
    np.testing.assert_allclose(bands, np.stack([edges[:-2], edges[1:-1], edges[2:]], axis=1), atol=1)
    assert make_front_end(make_settings()).edges(16000)[-1] == pytest.approx(8000)  # fmax null: half the rate


def test_frequencies_may_reach_half_the_rate_and_the_window_be_as_long_as_n_fft():
    """Beyond them: test_bad_input.py."""
    make_front_end(make_settings(fmin=7999.0, fmax=8000.0, win_length=1024)).check(16000)


def test_samples_too_large_to_compute_with_are_reported():
    with pytest.raises(InputError, match=r"the clip holds samples up to 3\.0e\+38, too large to compute with"):
        sample_frames(np.full(8000, 3e38, dtype=np.float32), 16000, make_front_end(make_settings()))


def test_mel_bands_without_a_bin_are_reported_in_one_sentence(clips, capsys):
    front_end = make_front_end(make_settings(n_mels=512, fmax=8000.0))
    for path in clips[:2]:
        clip_frames(path, front_end)
    assert capsys.readouterr().err == (
        "warning: 47 of 512 mel bands are empty, too narrow for n_fft 1024 at 16000 Hz; lower --n_mels or raise "
        "--n_fft\n"
    )
