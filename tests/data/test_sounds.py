"""Sound files and ops: log-mel frames against SciPy's transform and the mel formula written out."""

import struct

import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import ShortTimeFFT, get_window

import data
from core.errors import UserError
from core.info import Key
from data.preprocess.pipeline import fit, parse_op
from data.preprocess.sounds import LogMel, log_mel, mel_filters, stack_frames
from data.sources.files import Columns
from data.sources.sounds import read_wav, resample
from data.sources.tfds import Official
from tests.data import fake
from tests.data.drawn import play
from tests.data.infos import shapes


def sound(size, rate=8_000, dtype=np.int16):
    time = np.arange(size) / rate
    noise = np.random.default_rng(0).normal(0, 200, size)
    return (8_000 * np.sin(2 * np.pi * (300 + 400 * time) * time) + noise + 500).astype(dtype)


def filter_by_hand(frequency, band, bands, rate):
    """Returns the weight of a frequency in a mel band, from the definition."""

    def corner(i):
        return 700 * (10 ** (i / (bands + 1) * np.log10(1 + rate / 2 / 700)) - 1)

    low, peak, high = corner(band), corner(band + 1), corner(band + 2)
    if low <= frequency <= peak:
        return (frequency - low) / (peak - low)
    return (high - frequency) / (high - peak) if peak < frequency <= high else 0.0


@pytest.mark.parametrize(("rate", "bands", "points"), [(8_000, 40, 256), (16_000, 64, 512)])
def test_log_mel_is_the_published_one(rate, bands, points):
    size, hop = rate // 40, rate // 100
    audio = sound(1_777, rate)
    frames = log_mel(audio, rate, bands=bands)
    assert frames.dtype == np.float32 and frames.shape == (1 + (1_777 - size) // hop, bands)
    signal = audio / 32768 - np.mean(audio / 32768)
    transform = ShortTimeFFT(get_window("hann", size), hop, rate, mfft=points)
    lead = (
        -(-size // 2 // hop) * hop - size // 2
    )  # zeros before the sound, so that some window starts at its first sample
    power = transform.spectrogram(np.concatenate([np.zeros(lead), signal, np.zeros(size)]))
    skip = (lead + size // 2) // hop - transform.p_min
    weights = [[filter_by_hand(f, band, bands, rate) for f in transform.f] for band in range(bands)]
    expected = np.log(np.array(weights) @ power + 1e-6).T[skip : skip + len(frames)]
    np.testing.assert_allclose(frames, expected, atol=2e-4)


def test_a_tone_is_loudest_in_its_band():
    tone = np.sin(2 * np.pi * 1_000 * np.arange(8_000) / 8_000).astype(np.float32)
    loudest = set(log_mel(tone, 8_000).argmax(axis=1))
    filters = mel_filters(8_000, 40)
    assert loudest == {filters[:, 32].argmax()}  # 32 * 8,000 / 256 Hz


@pytest.mark.parametrize(("size", "frames"), [(0, 1), (1, 1), (199, 1), (200, 1), (279, 1), (280, 2), (800, 8)])
def test_as_many_frames_as_windows_fit(size, frames):
    assert log_mel(sound(size), 8_000).shape == (frames, 40)
    assert np.isfinite(log_mel(sound(size), 8_000)).all()
    assert LogMel(stack=3).frames(sound(size), 8_000).shape == (-(-frames // 3), 120)


def test_frames_are_standardised_and_loudness_does_not_matter():
    audio = sound(8_000)
    frames = LogMel().frames(audio, 8_000)
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames.mean(axis=0), np.zeros(40), atol=1e-4)
    np.testing.assert_allclose(frames.std(axis=0), np.ones(40), atol=1e-4)
    np.testing.assert_allclose(frames, LogMel().frames(audio / np.float32(32768), 8_000), atol=1e-3)
    np.testing.assert_allclose(frames, LogMel().frames(audio * np.float32(3 / 32768), 8_000), atol=0.02)
    np.testing.assert_allclose(
        LogMel().frames(np.zeros(4_000, np.int16), 8_000), np.zeros((48, 40)), atol=1e-5
    )  # silence stays silent


def test_stacked_frames_keep_every_number():
    frames = np.arange(14, dtype=np.float32).reshape(7, 2) + 1
    stacked = stack_frames(frames, 3)
    assert stacked.tolist() == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12], [13, 14, 0, 0, 0, 0]]
    np.testing.assert_array_equal(stack_frames(frames, 1), frames)
    frames = LogMel(bands=20, stack=2).frames(sound(3_000), 8_000)
    np.testing.assert_array_equal(frames, stack_frames(LogMel(bands=20).frames(sound(3_000), 8_000), 2))
    assert frames.shape[1] == 40


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("log_mel(bands=0)", "bands must be at least 1, not 0"),
        ("log_mel(stack=0)", "stack must be at least 1"),
        ("log_mel(bands=120)", "bands=120 exceeds the spectrum's resolution at 8000 samples per second"),
        ("log_mel(rates=8000)", "unexpected keyword argument 'rates'"),
        ("log_mels()", "'log_mels' does not exist: did you mean 'log_mel'"),
        ("read_sound('path', rate=0)", "rate must be at least 1"),
    ],
)
def test_impossible_ops_are_refused(call, problem):
    with pytest.raises(UserError, match=problem) as caught:
        parse_op(call)
    assert "\n" not in str(caught.value)


def test_the_op_turns_audio_into_frames():
    waves = [sound(800), sound(1_000)]
    examples = Columns({"audio": (waves, None), "text": (["a", "b"], None)})
    keys = {"audio": Key(role="wave", ragged=True), "text": Key(role="text")}
    fitted, splits, described = fit(("log_mel(bands=20)",), {"train": examples}, keys)
    chunk = splits["train"].chunk([1, 0])
    assert list(chunk) == ["text", "frames"] and chunk["text"] == ["b", "a"]
    np.testing.assert_array_equal(chunk["frames"][0], LogMel(bands=20).frames(waves[1], 8_000))
    assert described["frames"] == Key(role="frames", ragged=True) and "audio" not in described
    assert fitted({"text": ["new"]}) == {"text": ["new"]}
    with pytest.raises(UserError, match=r"data.preprocess: log_mel: 'audio' does not exist"):
        fit(("log_mel()",), {"train": examples}, {"text": Key(role="text")})


def test_frames_of_a_set_are_padded(config, tmp_path):
    fake.prepare_recipes(str(tmp_path), ("joined_digits/random",))
    call = "log_mel(rate=8000, bands=20, stack=2)"
    splits, info = data.load(config("joined_digits/random", test="test", preprocess=(call,)), str(tmp_path))
    assert "audio" not in info.keys
    longest = 0
    for name, split in splits.items():
        examples = Official("joined_digits/random", str(tmp_path)).examples(name)
        arrays = split.arrays
        for i, audio in enumerate(examples.chunk(np.arange(len(examples)), ("audio",))["audio"]):
            frames = LogMel(bands=20, stack=2).frames(audio, 8_000)
            length, longest = arrays["frames_lengths"][i], max(longest, len(frames))
            assert length == len(frames) == arrays["frames_mask"][i].sum()
            np.testing.assert_array_equal(arrays["frames"][i, :length], frames)
            assert not arrays["frames"][i, length:].any()
    assert shapes(info)["frames"] == ((longest, 40), "float32")


def test_paths_become_sounds_of_one_rate(tmp_path):
    play(tmp_path / "a.wav", 300)
    play(tmp_path / "sub" / "b.wav", 300, rate=16_000)
    chunk = {"path": ["a.wav", f"{tmp_path}/sub/b.wav"], "folder/": [str(tmp_path)] * 2}
    examples = Columns({key: (values, None) for key, values in chunk.items()})
    keys = {"path": Key(role="text")}
    fitted, splits, described = fit(("read_sound('path', rate=16000)", "log_mel()"), {"train": examples}, keys)
    assert fitted.states[1] == {"rate": 16_000} and list(described) == ["frames"]
    frames = splits["train"].chunk([0, 1])["frames"]
    assert frames[0].shape == frames[1].shape == (8, 40)
    (tmp_path / "a.wav").unlink()
    with pytest.raises(UserError, match=r"read_sound: 'path': .*a.wav does not exist \(1 of 2 files of 'train'"):
        fit(("read_sound('path')",), {"train": examples}, keys)


@pytest.mark.parametrize(("rate", "new"), [(44_100, 8_000), (8_000, 16_000), (11_025, 16_000)])
def test_resampling_keeps_a_tone_and_removes_what_aliases(rate, new):
    def tone(hertz, rate):
        return np.sin(2 * np.pi * hertz * np.arange(rate // 5) / rate).astype(np.float32)

    inner = slice(200, -200)
    np.testing.assert_allclose(resample(tone(500, rate), rate, new)[inner], tone(500, new)[inner], atol=2e-2)
    if new < rate:
        assert np.abs(resample(tone(6_000, rate), rate, new)[inner]).max() < 0.02
    assert resample(tone(500, rate), rate, rate).dtype == np.float32


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.int16, 0), (np.int32, 1e-7), (np.uint8, 1e-2), (np.float32, 0)])
def test_wav_files_are_read_as_fractions(tmp_path, dtype, tolerance):
    audio = (sound(500) / np.float32(32768)).astype(np.float32)
    stored = {
        np.int16: lambda: sound(500),
        np.int32: lambda: sound(500).astype(np.int32) << 16,
        np.uint8: lambda: np.round(audio * 128 + 128).astype(np.uint8),
        np.float32: lambda: audio,
    }[dtype]()
    wavfile.write(tmp_path / "a.wav", 8_000, stored)
    read, rate = read_wav(tmp_path / "a.wav")
    assert rate == 8_000 and read.dtype == np.float32
    np.testing.assert_allclose(read, audio, atol=tolerance)


def test_channels_are_averaged(tmp_path):
    left = sound(500)
    wavfile.write(tmp_path / "two.wav", 16_000, np.stack([left, np.zeros_like(left)], axis=1))
    read, rate = read_wav(tmp_path / "two.wav")
    assert rate == 16_000
    np.testing.assert_allclose(read, left / 65536, atol=1e-6)


def wav(channels=1, rate=8_000, samples=b"data\x04\x00\x00\x00\x00\x00\x00\x00"):
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, channels, rate, 2 * rate, 2, 16)
    return b"RIFF" + struct.pack("<I", 4 + len(form + samples)) + b"WAVE" + form + samples


DAMAGED = [wav(channels=0), wav(rate=0), wav(samples=b"")]


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a sound at all", wav()[:20], *DAMAGED])
def test_what_is_no_wav_file_is_refused(tmp_path, content):
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad.wav is not a readable WAV file") as caught:
        read_wav(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"file .*missing.wav does not exist"):
        read_wav(tmp_path / "missing.wav")


def test_sounds_that_are_not_finite_are_refused(tmp_path):
    wavfile.write(tmp_path / "nan.wav", 8_000, np.array([0, np.nan, 1], np.float32))
    with pytest.raises(UserError, match=r"nan.wav has samples that are NaN"):
        read_wav(tmp_path / "nan.wav")
