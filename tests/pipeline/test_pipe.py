from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hashshield.imaging.png_chunks import chunk
from hashshield.pipeline.protect import protect_bytes
from hashshield.storage import Store, digest
from hashshield.types import FileOptions
from tiny_net import encoded, picture


def test_force_through_a_pipe_starts_from_the_original(
    tmp_path: Path, request_for: Callable[..., Any], protect_now: Callable[..., Any]
) -> None:
    folder = tmp_path / "piped"
    folder.mkdir(mode=0o700)
    photo = folder / "a.png"
    original = encoded(picture())
    photo.write_bytes(original)
    protect_now(photo, accept_best=True)
    protected = photo.read_bytes()
    assert protected != original
    request = request_for(accept_best=True)
    with Store.open(request.vault) as store:
        assert store.known(digest(protected)) is not None
    same, row = protect_bytes(protected, request, name="-")
    assert (same, row.status) == (protected, "already")
    _, again = protect_bytes(protected, request_for(accept_best=True, force=True), name="-")
    assert again.sha256_before == digest(original), "never change on top of a change"


def test_credentials_are_told_of_before_the_work_and_in_the_row(request_for: Callable[..., Any]) -> None:
    plain = encoded(picture())
    signed = plain[:33] + chunk(b"caBX", b"jumb c2pa").data + plain[33:]
    said: list[str] = []
    data, row = protect_bytes(signed, request_for(accept_best=True), name="-", notice=said.append)
    assert data is not None
    assert b"c2pa" in data
    assert row.broken_credentials
    (line,) = said
    assert line.startswith("-: has content credentials")

    said.clear()
    options = FileOptions(remove_credentials=True)
    request = request_for(accept_best=True, file_options=options)
    data, row = protect_bytes(signed, request, name="-", notice=said.append)
    assert data is not None
    assert b"c2pa" not in data
    assert (row.broken_credentials, said) == (False, [])
    _, row = protect_bytes(plain, request_for(accept_best=True), name="-", notice=said.append)
    assert (row.broken_credentials, said) == (False, [])
