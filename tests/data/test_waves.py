"""Waves of one length, mu-law codes, and generated tones."""

import numpy as np
import pytest

import data
from core.errors import UserError
from core.info import Key
from core.mu_law import encode
from data.builders import waves
from data.preprocess.pipeline import fit, parse_op
from data.sources.files import Columns
from tests.data.infos import class_names, shapes

RAMP = np.arange(-100, 100, dtype=np.int16) * 100
KEYS = {"audio": Key(role="wave", ragged=True), "label": Key(role="label", classes=("a", "b"))}


def processed(ops, sounds, keys=KEYS):
    examples = Columns({"audio": (sounds, None), "label": ([0] * len(sounds), None)})
    _, splits, described = fit(ops, {"train": examples}, keys)
    return splits["train"].chunk(range(len(sounds))), described


def test_waveforms_have_one_length_and_unit_power():
    chunk, described = processed(("waveform(length=150)",), [RAMP, RAMP[:50], np.zeros(9, np.int16)])
    cut, padded, silent = chunk["audio"]
    centred = RAMP / np.sqrt(np.mean((RAMP - RAMP.mean()) ** 2)) - RAMP.mean() / np.std(RAMP)
    np.testing.assert_allclose(cut, centred[:150], rtol=1e-5, atol=1e-6)
    assert padded.shape == (150,) and not padded[50:].any() and not silent.any()
    assert np.mean(padded[:50] ** 2) == pytest.approx(1, rel=1e-5)
    assert cut.dtype == np.float32 and described["audio"] == Key(role="wave", statistics={"rate": 8_000})


def test_frames_of_waveforms_have_one_length():
    chunk, described = processed(("waveform(length=1_000)", "log_mel(bands=20)"), [RAMP, RAMP[:50]])
    assert {frames.shape for frames in chunk["frames"]} == {(11, 20)} and not described["frames"].ragged


def test_codes_stand_between_two_boundaries():
    chunk, described = processed(("mu_law()",), [RAMP, RAMP[:0]])
    codes, empty = chunk["codes"]
    assert codes.dtype == np.int32 and empty.tolist() == [256, 256] and "audio" not in chunk
    np.testing.assert_array_equal(codes, [256, *encode(RAMP / 32768), 256])
    record = described["codes"]
    assert record.vocabulary.size == 257 and record.vocabulary.bos == record.vocabulary.eos == 256
    assert record.statistics == {"rate": 8_000} and record.ragged


def test_codes_of_another_rate():
    keys = KEYS | {"audio": Key(role="wave", ragged=True, statistics={"rate": 16_000})}
    chunk, _ = processed(("mu_law()",), [RAMP], keys)
    assert len(chunk["codes"][0]) == 102


@pytest.mark.parametrize("call", ["waveform(length=0)", "waveform(rate=0)", "mu_law(rate=-1)"])
def test_impossible_ops_are_refused(call):
    with pytest.raises(UserError, match="must be at least 1"):
        parse_op(call)
    with pytest.raises(UserError, match=r"data.preprocess: mu_law: 'audio' does not exist"):
        fit(("mu_law()",), {"train": Columns({"label": ([0], None)})}, {"label": Key(role="label")})


def test_tones(config, data_dir, monkeypatch):
    monkeypatch.setattr(waves.Tones, "SIZES", {"train": 8, "validation": 4, "test": 40})
    splits, info = data.load(config("tones/2048", test="test"), data_dir)
    assert class_names(info) == waves.KINDS and shapes(info)["audio"] == ((2048,), "int32")
    test = splits["test"].batch(np.arange(40))
    crossings = np.diff(np.sign(test["audio"]), axis=1) != 0
    first, last = crossings[:, :512].sum(1), crossings[:, -512:].sum(1)
    ratio = {kind: (last / first)[test["label"] == i] for i, kind in enumerate(waves.KINDS)}
    assert (np.abs(np.log2(ratio["steady"])) < 0.15).all()
    assert (np.log2(ratio["rising"]) > 0.5).all() and (np.log2(ratio["falling"]) < -0.5).all()
    quarters = crossings[:, :2_047].reshape(-1, 23, 89).sum(2)  # the swinging tone: fast and slow within one period
    spread = quarters.max(1) / np.maximum(quarters.min(1), 1)
    assert spread[test["label"] == 3].min() > 1.5
