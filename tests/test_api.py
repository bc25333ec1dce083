"""The Python interface, on the tiny network: every kind of photo, what is written, and what is refused."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hashshield
from hashshield import imaging
from hashshield.boundary import observe_stages
from hashshield.errors import CheckpointError, HashshieldError, PhotoError, UsageError
from hashshield.imaging.png_chunks import chunk
from tiny_net import encoded, picture, write_tiny


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tiny network by its file, with a vault of its own and a key that repeats."""
    vault = tmp_path / "vault"
    vault.mkdir(mode=0o700)
    (vault / "key").write_bytes(bytes(range(32)))
    (vault / "key").chmod(0o600)
    monkeypatch.setenv("HASHSHIELD_VAULT", str(vault))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HASHSHIELD_PRESET", "invisible")  # the others ask more than the tiny network can give
    monkeypatch.setenv("HASHSHIELD_MAX_VISIBLE", "obvious")  # nor unseen
    monkeypatch.setenv("HASHSHIELD_STEPS", "150")  # with fewer some photo falls short on some processor
    return str(write_tiny(tmp_path / "tiny.safetensors")) + ":16"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(picture(72, 96)).save(path)
    return path


def distance(net: str, one: object, other: object) -> int:
    model = hashshield.load_model(net)
    return int((model.code(one) != model.code(other)).sum())  # type: ignore[arg-type]


def test_a_path_is_read_and_not_written(net: str, photo: Path) -> None:
    before = photo.read_bytes()
    done = hashshield.protect(photo, model=net)
    assert done.outcome.status == "protected"
    assert photo.read_bytes() == before
    assert done.data not in (None, before)
    assert distance(net, photo, done.data) == done.outcome.distance_from_original
    assert [p.name for p in photo.parent.iterdir() if p.suffix == ".png"] == ["photo.png"]


def test_in_place_writes_and_restore_undoes(net: str, photo: Path) -> None:
    before = photo.read_bytes()
    done = hashshield.protect(str(photo), model=net, in_place=True)
    assert photo.read_bytes() == done.data != before
    again = hashshield.protect(photo, model=net, in_place=True)
    assert (again.outcome.status, again.data) == ("already", done.data)
    assert hashshield.verify(photo).status == "protected"
    (row,) = hashshield.restore(photo)
    assert row.status == "restored"
    assert photo.read_bytes() == before


def test_output_is_a_folder_for_the_copy(net: str, photo: Path, tmp_path: Path) -> None:
    before = photo.read_bytes()
    done = hashshield.protect(photo, model=net, output=tmp_path / "out")
    assert photo.read_bytes() == before
    assert (tmp_path / "out" / "photo.png").read_bytes() == done.data


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_an_image(mode: str, net: str, photo: Path) -> None:
    with Image.open(photo) as opened:
        image = opened.convert(mode)
    done = hashshield.protect(image, model=net)
    assert done.outcome.status == "protected"
    assert (done.image.mode, done.image.size) == (mode, image.size)
    assert int(np.abs(np.array(done.image, int) - np.array(image, int)).max()) <= 8
    assert hashshield.verify(done.image, original=image, model=net).status == "protected"
    row = hashshield.evaluate(image, done.image, model=net)
    assert row.psnr_db == pytest.approx(done.outcome.psnr_db)


def test_the_orientation_of_an_image_counts(net: str, photo: Path) -> None:
    with Image.open(photo) as image:
        turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # to be shown turned back
    assert distance(net, turned, photo) == 0
    done = hashshield.protect(turned, model=net, tau=0.1)
    assert done.image.size == turned.size
    assert distance(net, done.image, photo) == done.outcome.distance_from_original


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_a_tensor(channels: int, dtype: torch.dtype, net: str) -> None:
    pixels = torch.from_numpy(picture(64, 80)).permute(2, 0, 1)[:channels]
    tensor = pixels if dtype == torch.uint8 else pixels.to(dtype) / 255
    done = hashshield.protect(tensor, model=net, tau=0.064, steps=80)
    assert done.outcome.status == "protected"
    assert done.tensor.shape == tensor.shape
    levels = (done.tensor * 255 - pixels).abs().max()
    assert 0 < float(levels) <= 16.01


def test_settings_are_those_of_the_options(net: str, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hashshield.protect(photo, model=[net], tau=0.02, steps=7).outcome.tau == 0.02
    monkeypatch.setenv("HASHSHIELD_TAU", "0.012")
    assert hashshield.protect(photo, model=net, accept_best=True).outcome.tau == 0.012
    with pytest.raises(UsageError, match="taux"):
        hashshield.protect(photo, model=net, taux=0.02)
    with pytest.raises(UsageError, match="tau"):
        hashshield.protect(photo, model=net, tau="much")


def test_a_photo_that_falls_short_has_no_bytes(net: str, photo: Path, tmp_path: Path) -> None:
    flat = tmp_path / "other.png"
    Image.fromarray(picture(72, 96)[::-1, ::-1] // 2).save(flat)
    done = hashshield.protect(photo, model=net, target=flat, tau=1 / 255, steps=1)
    assert (done.outcome.status, done.data) == ("short", None)
    with pytest.raises(PhotoError, match=r"short.*--steps"):
        _ = done.image


def test_what_is_refused(net: str, photo: Path, tmp_path: Path) -> None:
    def refused(kind: type[HashshieldError], text: str, *args: object, **more: object) -> None:
        with pytest.raises(kind, match=text):
            hashshield.protect(*args, model=more.pop("model", net), **more)  # type: ignore[arg-type]

    refused(UsageError, "exclude each other", photo, in_place=True, output=tmp_path)
    refused(UsageError, "exclude each other", photo, goal="away", target=photo)
    refused(UsageError, "take .data", photo.read_bytes(), in_place=True)
    refused(UsageError, "no such photo", tmp_path, in_place=True)
    refused(PhotoError, "cannot be read", tmp_path / "missing.png")
    refused(PhotoError, "image", b"no photo at all")
    refused(UsageError, r"\(7, 8, 8\)", torch.zeros(7, 8, 8))
    refused(UsageError, "divide by 255", torch.full((3, 64, 64), 200.0))
    refused(UsageError, "leaves that range", torch.full((3, 64, 64), float("nan")))
    refused(UsageError, "int64", torch.zeros(3, 64, 64, dtype=torch.int64))
    refused(PhotoError, "convert it", Image.new("CMYK", (64, 64)))
    refused(CheckpointError, "none", photo, model=str(tmp_path / "none.safetensors"))
    with pytest.raises(UsageError, match="original too"):
        hashshield.verify(photo, target=photo)
    with pytest.raises(UsageError, match="folder"):
        hashshield.evaluate(tmp_path, tmp_path, model=net)


def test_an_unknown_photo_is_unknown(net: str, photo: Path) -> None:
    assert hashshield.verify(photo, model=net).status == "unknown"


def test_a_network_is_differentiable(net: str, photo: Path) -> None:
    model = hashshield.load_model(net)
    assert (model.name.rpartition(":")[2], model.bits) == ("16", 16)
    assert set(model.code(photo)) <= {-1, 1}
    view = model.view(photo)[None].requires_grad_()
    model.module(view).code.sum().backward()
    assert view.grad is not None
    assert float(view.grad.abs().max()) > 0


def test_importing_costs_nothing() -> None:
    check = "import sys, hashshield; sys.exit('torch' in sys.modules or 'protect' not in dir(hashshield))"
    assert subprocess.run([sys.executable, "-c", check], env=dict(os.environ)).returncode == 0
    with pytest.raises(AttributeError, match="nothing"):
        _ = hashshield.nothing  # type: ignore[attr-defined]


def test_bytes_are_encoded_as_they_came(net: str, photo: Path) -> None:
    out = io.BytesIO()
    with Image.open(photo) as image:
        image.save(out, "WEBP", lossless=True)
    done = hashshield.protect(out.getvalue(), model=net)
    assert done.image.format == "WEBP"


def test_content_credentials_that_no_longer_match_are_in_the_outcome(net: str, photo: Path, tmp_path: Path) -> None:
    plain = encoded(picture(72, 96))
    photo.write_bytes(plain[:33] + chunk(b"caBX", b"jumb c2pa").data + plain[33:])
    assert hashshield.protect(photo, model=net, accept_best=True).outcome.broken_credentials
    assert hashshield.protect(photo, model=net, accept_best=True, output=tmp_path / "out").outcome.broken_credentials
    removed = hashshield.protect(photo, model=net, accept_best=True, remove_credentials=True)
    assert not removed.outcome.broken_credentials
    assert removed.data is not None
    assert b"c2pa" not in removed.data


def test_what_nobody_foresaw_ends_one_photo_and_no_folder(
    net: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault points inside the pipeline's boundaries and outside of them: each call raises PhotoError and says why."""
    done = hashshield.protect(photo, model=net, method="noise", accept_best=True)
    network = hashshield.load_model(net)

    def broken(*given: object, **named: object) -> object:
        raise ZeroDivisionError("at my fault point")

    def refused(call: Callable[[], object]) -> None:
        with pytest.raises(PhotoError, match="internal error: ZeroDivisionError: at my fault point; please"):
            call()

    before = photo.read_bytes()
    for place in ("protect.digest", "work.prepare", "plan.imaging.read", "rows.row_of", "execute.make_context"):
        with monkeypatch.context() as patch:
            patch.setattr(f"hashshield.pipeline.{place}", broken)
            if place != "plan.imaging.read":
                refused(lambda: hashshield.protect(before, model=net))
            if place not in ("protect.digest", "rows.row_of"):
                refused(lambda: hashshield.protect(photo, model=net, in_place=True))
    with monkeypatch.context() as patch:
        patch.setattr("hashshield.pipeline.verify.open_models", broken)
        refused(lambda: hashshield.verify(photo, original=photo, model=net))
    with monkeypatch.context() as patch:
        patch.setattr("hashshield.pipeline.evaluate.open_models", broken)
        refused(lambda: hashshield.evaluate(photo, done.data or b"", model=net))
    with monkeypatch.context() as patch:
        patch.setattr(imaging, "read", broken)
        refused(lambda: network.code(photo))
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", broken)
        refused(lambda: hashshield.protect(Image.open(photo), model=net))
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", broken)
        refused(lambda: done.image)
    with monkeypatch.context() as patch:
        patch.setattr("hashshield.storage.store.Store.restore", broken)
        (row,) = hashshield.restore(photo)
        assert (row.status, "please report it" in str(row.reason)) == ("failed", True)
    assert photo.read_bytes() == before
    with pytest.raises(UsageError, match="no_such_setting"):
        hashshield.protect(photo, model=net, no_such_setting=1)


def test_a_folder_goes_on_after_a_photo_that_raises(net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for seed, path in enumerate(paths):
        path.write_bytes(encoded(picture(48, 48, seed=seed)))
    before = observe_stages(None)

    def fault(stage: str, photo: str) -> None:
        if stage == "judge" and photo == str(paths[1]):
            raise ZeroDivisionError("at my fault point")

    observe_stages(fault)
    failed = []
    try:
        for path in paths:
            try:
                hashshield.protect(path, model=net, method="noise", accept_best=True, in_place=True)
            except PhotoError as error:
                failed.append((path, str(error)))
    finally:
        observe_stages(before)
    assert failed == [(paths[1], f"{paths[1]}: internal error: ZeroDivisionError: at my fault point; please report it")]
