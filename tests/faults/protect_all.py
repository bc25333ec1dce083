"""Protect every photo of a folder with fake data: usage `protect_all.py VAULT PHOTOS`; prints counts as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fault_scenario import unsettled

from hashshield.errors import ChangedError
from hashshield.storage import NewRecord, Store, read_snapshot, walk


def main(vault: Path, photos: Path) -> None:
    assert "torch" not in sys.modules
    print("ready", flush=True)
    sys.stdin.readline()
    counts = {"protected": 0, "already": 0, "changed": 0}
    with Store.open(vault) as store:
        counts["key"] = store.key()[0]
        for path in walk(photos):
            source = read_snapshot(path, follow=False, within=photos)
            if store.known(source.sha256) is not None:
                counts["already"] += 1
                continue
            try:
                store.replace(source, b"protected " + source.data, NewRecord(), allow_root=True)
            except ChangedError:
                after = read_snapshot(path, follow=False, within=photos)
                assert store.known(after.sha256) is not None, "the other process has protected it"
                counts["changed"] += 1
            else:
                counts["protected"] += 1
        assert unsettled(store) == []
    print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
