from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hashshield.pipeline.protect import protect_bytes
from hashshield.storage import Store, digest
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
