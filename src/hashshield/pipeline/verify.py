"""`verify`: hash files as they are now, and compare them with the ledger or with a given original and goal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock

import torch

from hashshield import imaging
from hashshield.attacks.batching import cpu_workers
from hashshield.attacks.presets import preset as find_preset
from hashshield.boundary import boundary
from hashshield.checkpoints.catalog import DEFAULT_MODEL, full_name, resolve
from hashshield.errors import HashshieldError, NotAPhotoError
from hashshield.imaging.photo import read_photo_file
from hashshield.metrics.retrieval import to_hex
from hashshield.models.device import choose_device, keep_freed_memory
from hashshield.models.hashing import displayed_rgb
from hashshield.models.load import OpenModel, open_models
from hashshield.pipeline.targets import (
    CodeTarget,
    goal_for,
    make_target,
    measure,
    read_target,
    target_for_view,
    tolerance_for,
)
from hashshield.pipeline.twins import TURNED, Results, earlier_record, results_of
from hashshield.storage import FOREIGN, Record, Store, named
from hashshield.types import CodeRow, GoalSpec, Progress, Verdict, Verification

__all__ = ["verify"]


def verify(
    paths: Sequence[Path],
    *,
    models: Sequence[str],
    otherwise: Sequence[str] = (DEFAULT_MODEL,),
    original: Path | None = None,
    goal: GoalSpec | None = None,
    tolerance: int | None = None,
    preset: str = "balanced",
    vault: Path | None = None,
    device: str = "auto",
    exclude: Sequence[str] = (),
    progress: Progress,
) -> list[Verification]:
    """Return one row per file: whether its bits, hashed now, meet the goal it was protected with.

    Without `original`, goal and networks are those of the ledger; `models` selects among the networks (empty: all). A
    file that is not in the ledger is `unknown`, one that is there as the photo before protection is `original`; both
    rows have the file's codes. With `original`, distances are to that photo and to `goal` (default: away), in the
    views of `preset`, on `models`, or on `otherwise` if none are named. If `original` is itself protected, the photo
    before protection is used: its code from the ledger, or its bytes from the vault. `tolerance` overrides the recorded
    one. Raises UsageError, CheckpointError, StorageError for problems of the whole run.
    """
    rows: list[Verification] = []
    with Store.open(vault, reading=True) as store:
        for notice in store.notices:
            progress.notice(notice)
        files = list(_files(paths, store, rows, exclude))
        progress.start(len(files))
        keep_freed_memory()
        chosen, views = choose_device(device), find_preset(preset).views
        check = _Check(store, list(models), list(otherwise), original, goal, tolerance, views, chosen, progress)
        with cpu_workers(torch.get_num_threads() if check.device == "cpu" else 1) as pool:
            for row in (pool.map if pool else map)(check.row, files):
                progress.photo(row.path)
                rows.append(row)
                progress.done(row)
    return rows


class _Check:
    def __init__(
        self,
        store: Store,
        models: list[str],
        otherwise: list[str],
        original: Path | None,
        goal: GoalSpec | None,
        tolerance: int | None,
        views: Sequence[str],
        device: str,
        progress: Progress,
    ) -> None:
        self.store, self.tolerance, self.views = store, tolerance, views
        self.device, self.progress = device, progress
        self.asked = bool(models)
        self.opened: dict[str, OpenModel] = {}
        self.opening = Lock()
        self.names = [self._full(name) for name in models or (otherwise if original else []) or [DEFAULT_MODEL]]
        self.goal = goal or GoalSpec()
        self.promised: Record | None = None
        """The ledger row of an original that is itself protected, unless a goal was given; it applies to all files."""
        self.targets = None if original is None else self._marks_of(original, as_promised=goal is None)

    def file(self, path: Path, within: Path | None) -> Verification:
        try:
            snapshot = read_photo_file(path, follow=within is None, within=within)
        except NotAPhotoError:
            if within is None:
                raise
            return Verification(str(path), "skipped", reason="not an image")
        record = self.store.known(snapshot.sha256) if self.targets is None else self.promised
        photo = imaging.read(snapshot.data, name=str(path))
        reoriented = False
        if self.targets is None and record is None:
            record, reoriented = earlier_record(photo, snapshot.sha256, self.store, self._results) or (None, False)
        displayed = displayed_rgb(photo)
        targets = self.targets or self._recorded(record)
        if not targets:
            status, reason = self._without_promise(snapshot.sha256, record)
            return Verification(str(path), status, reason=reason, hex_codes=self._hex(displayed, self.names))
        rows = [self._measure(target, displayed) for target in targets]
        lossless = photo.lossless
        tolerance = self.tolerance
        if tolerance is None and record is not None:
            tolerance = record.details.get("tolerance")
        # Distances are to the photo as it was displayed; those of a reoriented one say nothing about a service.
        passed = not reoriented and all(
            target.passed(row, tolerance_for(tolerance, row.bits, lossless=lossless))
            for target, row in zip(targets, rows, strict=True)
        )
        return Verification(
            str(path),
            "protected" if passed else "not_protected",
            reason=TURNED if reoriented else None,
            source="ledger" if self.targets is None else "original",
            goal=_goal_text(self.goal, record),
            distance_from_original=min(row.distance_from_original for row in rows),
            distance_to_goal=max(row.distance_to_goal for row in rows),
            codes=tuple(rows),
            hex_codes=self._hex(displayed, [target.model for target in targets]),
        )

    @cached_property
    def _results(self) -> Results:
        return results_of(self.store)

    def _full(self, name: str) -> str:
        """Return a model's name as the ledger has it; a file without a code length is opened to find it."""
        full = full_name(name)
        return full if resolve(full).bits is not None else self._model(full).name

    def row(self, named_file: tuple[Path, Path | None]) -> Verification:
        """Return the row of a (file, folder it was found in); called from several threads."""
        path, within = named_file
        try:
            with boundary("compare", str(path)):
                return self.file(path, within)
        except HashshieldError as error:
            return Verification(str(path), "failed", reason=str(error))

    def _model(self, name: str) -> OpenModel:
        with self.opening:
            if name not in self.opened:
                (self.opened[name],) = open_models([name], device=self.device)
            return self.opened[name]

    def _recorded(self, record: Record | None) -> list[CodeTarget]:
        """Return a ledger row's targets on the named networks, or on all if none is named."""
        targets = [] if record is None else [read_target(m) for m in record.details["marks"]]
        return [target for target in targets if not self.asked or target.model in self.names]

    def _without_promise(self, sha256: str, record: Record | None) -> tuple[Verdict, str]:
        """Return status and reason of a file without a recorded target on the named networks."""
        if record is not None:
            reason = f"protected against {record.details['model']} only; give --original to compare on other networks"
            return "unknown", reason
        if self.store.record_for_original(sha256) is not None:
            return "original", "the photo as it was before it was protected; searches find it by its own code"
        return "unknown", "not in the ledger; give the photo it was made from with --original"

    @torch.inference_mode()
    def _measure(self, target: CodeTarget, displayed: imaging.Pixels) -> CodeRow:
        model = self._model(target.model)
        hashed = model.hash(displayed, target.view)
        return measure(target, hashed.code, model.anchors, target.view, card=model.card, features=hashed.features)

    @torch.inference_mode()
    def _hex(self, displayed: imaging.Pixels, names: Sequence[str]) -> dict[str, str]:
        codes = {}
        for name in names:
            model = self._model(name)
            codes[model.name] = to_hex(model.hash(displayed).bits)
        return codes

    def _marks_of(self, original: Path, *, as_promised: bool) -> list[CodeTarget]:
        """Return the targets to compare files with, for a given original.

        After protection in place, the photo that the user has is the protected one, whose code is not the original's.
        Then the recorded targets are used if `as_promised`, else the vault's bytes.
        """
        snapshot = read_photo_file(original, follow=True)
        photo = imaging.read(snapshot.data, name=str(original))
        record = self.store.known(snapshot.sha256, imaging.pixel_digest(photo))
        if record is None:
            return self._drawn(displayed_rgb(photo), snapshot.sha256)
        self.progress.notice(f"{original}: is protected; compared with the photo it was")
        targets = self._recorded(record) if as_promised else []
        if targets:
            self.promised = record
            return targets
        data = self.store.original(record)
        return self._drawn(displayed_rgb(imaging.read(data, name=str(original))), record.sha256_before)

    @torch.inference_mode()
    def _drawn(self, displayed: imaging.Pixels, sha256: str) -> list[CodeTarget]:
        """Return targets for an original. The code that `away` drew is unknown, so only the band is checked."""
        models = [self._model(name) for name in self.names]
        goal = goal_for(self.goal, models)
        targets = []
        for model in models:
            hashed = [model.hash(displayed, view) for view in self.views]
            target, _ = make_target(
                goal,
                model,
                hashed[0].code,
                hashed[0].features,
                key=self.store.key(),
                sha256=sha256,
            )
            targets.append(target)
            for view, found in zip(self.views[1:], hashed[1:], strict=True):
                there, _ = target_for_view(target, view, found.code, found.features)
                targets.append(there)
        return targets


def _goal_text(goal: GoalSpec, record: Record | None) -> str:
    if record is not None:
        return str(record.details["goal"])
    return goal.label


def _files(
    paths: Sequence[Path], store: Store, rows: list[Verification], exclude: Sequence[str]
) -> Iterator[tuple[Path, Path | None]]:
    def failed(folder: Path, error: OSError) -> None:
        rows.append(Verification(str(folder), "failed", reason=f"cannot be listed ({error.strerror})"))

    def foreign(location: Path) -> bool:
        rows.append(Verification(str(location), "skipped", reason=FOREIGN))
        return False

    return named(paths, skip=store.root, exclude=exclude, failed=failed, foreign=foreign)
