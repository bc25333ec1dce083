"""Photos that go to a worker together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hashshield.pipeline.plan import Job

__all__ = ["Batch", "photo_of"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Photos that are done together and have their rows in one part of the manifest."""

    part: str
    jobs: tuple[Job, ...]

    def as_row(self) -> dict[str, Any]:
        """As a row of a data set, which knows no classes of ours."""
        return {
            "part": self.part,
            # Empty for a photo that was named: a column of nothing but None has no type that others share.
            "jobs": [[str(job.path), str(job.within or ""), str(job.size), str(job.output)] for job in self.jobs],
        }

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Batch:
        """What `as_row` was called on."""
        jobs = (
            Job(Path(path), Path(within) if within else None, int(size), Path(output))
            for path, within, size, output in row["jobs"]
        )
        return cls(row["part"], tuple(jobs))


def photo_of(job: Job, output: Path) -> str:
    """The name a photo has in the manifest: where its copy lies below the output folder, with slashes."""
    assert job.output is not None
    return job.output.relative_to(output).as_posix()
