from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import hashshield
from hashshield.storage import Store
from hashshield.storage.folder import is_temporary

SCRIPT = Path(__file__).parent / "protect_all.py"
SOURCES = os.pathsep.join([str(Path(hashshield.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
PHOTOS = 60


def test_two_processes_share_one_folder_and_one_vault(quick: Path) -> None:
    photos = quick / "photos"
    photos.mkdir()
    originals = {f"{number:03}.jpg": os.urandom(20_000) for number in range(PHOTOS)}
    for name, data in originals.items():
        (photos / name).write_bytes(data)
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(quick / "vault"), str(photos)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": SOURCES},
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    counts = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        counts.append(json.loads(out))
    assert sum(count["protected"] for count in counts) == PHOTOS, counts
    assert sum(count["already"] + count["changed"] for count in counts) == 2 * PHOTOS
    assert len({count["key"] for count in counts}) == 1
    for name, data in originals.items():
        assert (photos / name).read_bytes() == b"protected " + data, "protected once, and once only"
    assert not [path for path in quick.rglob("*") if is_temporary(path.name)]
    with Store.open(quick / "vault") as store:
        assert len(store.ledger.every()) == PHOTOS
        for name, data in originals.items():
            assert store.restore(photos / name, allow_root=True).status == "restored"
            assert (photos / name).read_bytes() == data
