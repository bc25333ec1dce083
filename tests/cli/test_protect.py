from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hashshield.cli.app import app
from hashshield.config import SETTINGS, resolve
from hashshield.errors import CheckpointError, UnknownNameError
from hashshield.pipeline.request import request_of
from hashshield.types import FileOptions, GoalSpec, Outcome, Progress, Request

Run = Callable[..., Any]
Make = Callable[..., Outcome]


@pytest.fixture
def asked(stand_in: Callable[..., None], outcome: Make) -> list[tuple[list[Path], Request]]:
    """What the pipeline was asked; it says of every path that it is protected."""
    calls: list[tuple[list[Path], Request]] = []

    def protect(
        paths: Sequence[Path], request: Request, *, progress: Progress, agree: object, finish_first: bool
    ) -> list[Outcome]:
        calls.append((list(paths), request))
        progress.start(len(paths))
        rows = [outcome(str(path)) for path in paths]
        for row in rows:
            progress.photo(row.path)
            progress.done(row)
        return rows

    stand_in("hashshield.pipeline.protect", protect=protect)
    return calls


def test_without_options_the_request_is_the_default_one(run: Run, asked: list[Any]) -> None:
    ended = run("protect", "a.jpg", "folder")
    assert ended.code == 0
    ((paths, request),) = asked
    assert paths == [Path("a.jpg"), Path("folder")]
    assert request == Request()
    assert "Protected 2 of 2 photos" in ended.err


def test_the_defaults_of_the_settings_are_those_of_the_request(own_settings: Path) -> None:
    request, settings = Request(), resolve()
    fields = {field.name: getattr(request, field.name) for field in dataclasses.fields(Request)}
    fields |= dataclasses.asdict(request.file_options)
    shared = fields.keys() & SETTINGS.keys() - {"goal"}
    assert {key: SETTINGS[key].default for key in shared} == {key: fields[key] for key in shared}
    assert SETTINGS["model"].default == request.models
    assert GoalSpec(SETTINGS["goal"].default) == request.goal
    assert SETTINGS.keys() - shared == {"model", "goal", "cache", "mirror", "offline"}, "no field for these"
    assert request_of(settings, None) == request


def test_every_option_reaches_the_request(run: Run, asked: list[Any], tmp_path: Path) -> None:
    words = (
        "--tau 0.02 --model a:16 --model b --target-class sunflower --method tanh --steps 7 "
        f"--output {tmp_path}/out --dry-run --force --device cpu --batch-size 4 --jobs 2 --seed 9 --accept-best "
        f"--tolerance 2 --vault {tmp_path}/v --strip-copies --strip-gps --strip-metadata --keep-mtime --break-links "
        "--remove-credentials "
        "--preset invisible --lossy-formats --allow-root --no-backup --yes --json --quiet "
        "--exclude *.png --exclude thumbs --sample 3 --witness w:16"
    )
    ended = run("protect", *words.split(), "a.jpg")
    assert ended.code == 0
    assert ended.err == ""
    assert json.loads(ended.out)["summary"]["counts"]["protected"] == 1
    assert asked[0][1] == Request(
        models=("a:16", "b"),
        goal=GoalSpec("class", "sunflower"),
        method="tanh",
        preset="invisible",
        tau=0.02,
        steps=7,
        tolerance=2,
        accept_best=True,
        force=True,
        backup=False,
        dry_run=True,
        output=tmp_path / "out",
        vault=tmp_path / "v",
        witness="w:16",
        exclude=("*.png", "thumbs"),
        sample=3,
        device="cpu",
        batch_size=4,
        jobs=2,
        seed=9,
        file_options=FileOptions(
            strip_copies=True,
            strip_gps=True,
            strip_metadata=True,
            remove_credentials=True,
            keep_mtime=True,
            lossy_formats=True,
            break_links=True,
            allow_root=True,
        ),
    )


@pytest.mark.parametrize("preset", ["invisible", "balanced"])
def test_the_first_success_ends_the_search_of_these_presets(preset: str, run: Run, asked: list[Any]) -> None:
    assert run("protect", "a.jpg", "--stop", "first", "--preset", preset).code == 0
    assert asked[0][1] == Request(stop="first", preset=preset)


def test_a_configured_default_gives_way_where_it_has_no_effect(
    run: Run, asked: list[Any], own_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_settings.write_text("tolerance = 2\nstop = 'first'\n")
    assert run("protect", "a.jpg", "--preset", "strong").code == 0
    assert (asked[0][1].stop, asked[0][1].tolerance) == ("budget", 2), "strong keeps its own search"
    assert run("protect", "a.jpg", "--method", "tanh").code == 0
    monkeypatch.setenv("HASHSHIELD_METHOD", "hag")
    assert run("protect", "a.jpg").code == 0
    assert run("protect", "a.jpg", "--stop", "first").code == 2


@pytest.mark.parametrize(
    ("words", "goal"),
    [
        (["--goal", "opposite"], GoalSpec("opposite")),
        (["--goal", "decoy"], GoalSpec("decoy")),
        (["--target", "t.png"], GoalSpec("image", "t.png")),
        (["--target-set", "dir"], GoalSpec("set", "dir")),
    ],
)
def test_goals(run: Run, asked: list[Any], words: list[str], goal: GoalSpec, own_settings: Path) -> None:
    own_settings.write_text('goal = "center"')
    assert run("protect", "a.jpg", *words).code == 0
    assert asked[0][1].goal == goal


def test_settings_come_from_file_and_environment(
    run: Run, asked: list[Any], own_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_settings.write_text('goal = "opposite"\ntau = 0.05\nsteps = 9\nstrip_gps = true\nkeep_mtime = true\n')
    monkeypatch.setenv("HASHSHIELD_STEPS", "11")
    monkeypatch.setenv("HASHSHIELD_KEEP_MTIME", "0")
    assert run("protect", "a.jpg", "--tau", "0.01").code == 0
    request = asked[0][1]
    assert (request.goal, request.tau, request.steps) == (GoalSpec("opposite"), 0.01, 11)
    assert request.file_options.strip_gps is True
    assert request.file_options.keep_mtime is False


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tau", "0.5.5"], "--tau"),
        (["--tau", "2"], "between 1/255 (one 8-bit level) and 1"),
        (["--tau", "0.003"], "between 1/255"),
        (["--tau", "nan"], "between 1/255"),
        (["--method", "pgd"], "rnm, rnm-paper, tanh, hag, noise"),
        (["--goal", "image"], "away, opposite, decoy, center"),
        (["--stop", "never"], "budget, first"),
        (["--device", "gpu"], "auto, cpu, cuda, mps"),
        (["--steps", "0"], "at least 1"),
        (["--target", "a", "--target-class", "b"], "--target and --target-class exclude each other"),
        (["--goal", "away", "--target-set", "b"], "--target-set and --goal exclude each other"),
        (["--stop", "first", "--method", "tanh"], "--stop first: is for the method rnm, and the method is tanh"),
        (["--stop", "first", "--preset", "strong"], "--stop first: would replace the search"),
        (["--tolerance", "2"], "--tolerance 2: says by how many bits a code may miss its target, and the goal away"),
        (["--tolerance", "0", "--goal", "away"], "--tolerance 0: says"),
        (["--no-backup"], "add --yes"),
        (["--sigma", "1"], "No such option"),
        (["-", "b.jpg"], "one photo through a pipe"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(run: Run, asked: list[Any], words: list[str], message: str) -> None:
    ended = run("protect", "a.jpg", *words)
    assert ended.code == 2
    assert message in " ".join(ended.err.split())
    assert ended.out == ""
    assert asked == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--keep-mtime", "--keep-mtime would do nothing; leave it out"),
        ("--no-backup --exclude *.png", "--no-backup, --exclude would do nothing; leave them out"),
        ("--break-links --allow-root", "--break-links, --allow-root would"),
        ("--progress plain", "--progress would"),
        ("--progress loud", "--progress is 'loud', which is unknown"),
    ],
)
def test_options_about_files_are_refused_for_a_pipe(run: Run, asked: list[Any], words: str, named: str) -> None:
    ended = run("protect", "-", *words.split())
    assert ended.code == 2
    assert named in ended.err


def test_a_configured_option_about_files_is_no_obstacle_to_a_pipe(
    run: Run, own_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_settings.write_text("keep_mtime = true\nexclude = ['*.png']\n")
    monkeypatch.setattr(sys, "stdin", Bytes(terminal=True))
    assert "redirect both" in run("protect", "-").err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["protect", "--json", "--sample", "abc", "a.jpg"], "Invalid value for '--sample'"),
        (["protect", "--json", "--sigma", "1", "a.jpg"], "No such option"),
        (["protect", "--json", "a.jpg", ""], "an argument is empty"),
        (["protect", "--json"], "Missing argument"),
        (["originals", "prune", "--json", "--older-than", "x"], "Invalid value for '--older-than'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_command_line_that_is_not_valid_has_a_document(words: list[str], message: str, run: Run) -> None:
    ended = run(*words)
    document = json.loads(ended.out)
    assert document["command"] == " ".join(word for word in words[:2] if not word.startswith("-"))
    assert document["error"] == {"type": "UsageError", "message": document["error"]["message"], "exit_code": 2}
    assert message in document["error"]["message"]
    assert document["results"] == []
    assert ended.code == 2
    assert "Error" in ended.err


def test_the_document_about_a_pipe_is_never_taken_for_its_photo(run: Run) -> None:
    ended = run("protect", "-", "--json", "--sample", "abc")
    assert ended.out == ""
    assert '"exit_code": 2' in ended.err


def test_an_unforeseen_error_has_a_document_and_a_traceback(
    run: Run, stand_in: Callable[..., None], outcome: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    def protect(
        paths: object, request: object, *, progress: Progress, agree: object, finish_first: bool
    ) -> list[Outcome]:
        progress.done(outcome("done.jpg"))
        raise ZeroDivisionError("division by zero")

    stand_in("hashshield.pipeline.protect", protect=protect)
    with pytest.raises(ZeroDivisionError):
        app(["protect", "a.jpg", "--json"], prog_name="hashshield")
    document = json.loads(capsys.readouterr().out)
    assert [row["path"] for row in document["results"]] == ["done.jpg"]
    assert document["error"] == {
        "type": "ZeroDivisionError",
        "message": "internal error: division by zero; please report it",
        "exit_code": 1,
    }


def test_usage_errors_of_ours_are_one_line_and_an_error_key_in_json(run: Run, asked: list[Any]) -> None:
    ended = run("protect", "a.jpg", "--tau", "7")
    assert ended.err.count("\n") == 1
    ended = run("protect", "a.jpg", "--tau", "7", "--json")
    document = json.loads(ended.out)
    assert document["error"]["type"] == "UsageError"
    assert document["error"]["exit_code"] == ended.code == 2
    assert document["results"] == []
    assert asked == []


@pytest.mark.parametrize(
    ("error", "code"),
    [(CheckpointError("m: digest differs; fetch it again"), 4), (UnknownNameError("no network is called 'x'"), 2)],
)
def test_errors_of_the_pipeline_end_with_their_code_and_what_was_done(
    run: Run, stand_in: Callable[..., None], outcome: Make, error: Exception, code: int
) -> None:
    def protect(
        paths: object, request: object, *, progress: Progress, agree: object, finish_first: bool
    ) -> list[Outcome]:
        progress.done(outcome("done.jpg"))
        raise error

    stand_in("hashshield.pipeline.protect", protect=protect)
    ended = run("protect", "a.jpg", "--json")
    assert ended.code == code
    document = json.loads(ended.out)
    assert [row["path"] for row in document["results"]] == ["done.jpg"]
    assert document["error"]["message"] == str(error)


def test_an_interruption_reports_what_was_done_and_how_to_go_on(
    run: Run, stand_in: Callable[..., None], outcome: Make
) -> None:
    def protect(
        paths: object, request: object, *, progress: Progress, agree: object, finish_first: bool
    ) -> list[Outcome]:
        progress.done(outcome("done.jpg"))
        raise KeyboardInterrupt

    stand_in("hashshield.pipeline.protect", protect=protect)
    ended = run("protect", "a.jpg")
    assert ended.code == 130
    assert ended.out.startswith("done.jpg\tprotected")
    assert "run the same command again" in ended.err


class Bytes(io.TextIOWrapper):
    def __init__(self, data: bytes = b"", *, terminal: bool = False) -> None:
        self.raw_bytes = io.BytesIO(data)
        self.terminal = terminal
        super().__init__(self.raw_bytes, encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize("as_json", [False, True])
def test_a_photo_through_a_pipe(
    run: Run, stand_in: Callable[..., None], outcome: Make, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    def protect_bytes(data: bytes, request: Request, *, name: str, notice: object) -> tuple[bytes, Outcome]:
        return b"new" + data, outcome(name)

    stand_in("hashshield.pipeline.protect", protect_bytes=protect_bytes)
    out, err = Bytes(), Bytes()
    monkeypatch.setattr(sys, "stdin", Bytes(b"\xff\xd8\xffold"))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert run("protect", "-", *(["--json"] if as_json else [])).code == 0
    assert out.raw_bytes.getvalue() == b"new\xff\xd8\xffold"
    said = err.raw_bytes.getvalue().decode()
    if as_json:
        assert json.loads(said)["results"][0]["path"] == "-"
    else:
        assert said.startswith("-\tprotected")


def test_nothing_is_written_to_the_pipe_when_the_goal_was_not_reached(
    run: Run, stand_in: Callable[..., None], outcome: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(
        "hashshield.pipeline.protect", protect_bytes=lambda *_, **__: (None, outcome("-", "short", reason="one view"))
    )
    out = Bytes()
    monkeypatch.setattr(sys, "stdin", Bytes(b"\xff\xd8\xffx"))
    monkeypatch.setattr(sys, "stdout", out)
    assert run("protect", "-").code == 3
    assert out.raw_bytes.getvalue() == b""


def test_what_is_no_photo_is_not_read_from_the_pipe(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = Bytes(), Bytes()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with Path("/dev/zero").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert run("protect", "-", "--json").code == 1
    assert out.raw_bytes.getvalue() == b""
    (row,) = json.loads(err.raw_bytes.getvalue())["results"]
    assert (row["path"], row["status"]) == ("-", "failed")
    assert row["reason"] == "-: not an image; its first bytes are no image format known here"


def test_a_pipe_is_not_a_terminal(run: Run, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Bytes(terminal=True))
    ended = run("protect", "-")
    assert ended.code == 2
    assert "redirect both" in ended.err


@pytest.mark.parametrize(("answer", "code", "asked_for"), [("y\n", 0, 1), ("n\n", 1, 0)])
def test_losing_the_way_back_is_asked_about(
    run: Run, asked: list[Any], monkeypatch: pytest.MonkeyPatch, answer: str, code: int, asked_for: int
) -> None:
    err = Bytes(terminal=True)
    monkeypatch.setattr(sys, "stdin", Bytes(answer.encode(), terminal=True))
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "dumb")
    assert run("protect", "a.jpg", "--no-backup").code == code
    assert len(asked) == asked_for
    assert b"cannot be restored" in err.raw_bytes.getvalue()


def test_a_no_has_a_document(run: Run, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Bytes(b"n\n", terminal=True))
    monkeypatch.setattr(sys, "stderr", Bytes(terminal=True))
    monkeypatch.setenv("TERM", "dumb")
    ended = run("protect", "a.jpg", "--no-backup", "--json")
    assert ended.code == 1
    document = json.loads(ended.out)
    assert (document["error"]["type"], document["error"]["exit_code"]) == ("Aborted", 1)
    assert document["results"] == asked == []


def test_ctrl_c_at_a_question_is_an_interruption(run: Run, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Bytes):
        def readline(self, *_: Any) -> str:
            raise KeyboardInterrupt

    err = Bytes(terminal=True)
    monkeypatch.setattr(sys, "stdin", Gone(terminal=True))
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "dumb")
    assert run("protect", "a.jpg", "--no-backup").code == 130
    assert asked == []
    assert b"Interrupted after 0 results" in err.raw_bytes.getvalue()


def test_output_must_be_a_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"mine")
    ended = run("protect", "a.jpg", "--output", tmp_path / "b.jpg")
    assert ended.code == 2
    assert "is a file; name the folder" in ended.err
    assert (tmp_path / "b.jpg").read_bytes() == b"mine"


def test_an_unreadable_path_is_left_to_the_pipeline(
    run: Run, asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"closed")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert run("protect", tmp_path / "a.jpg", "b.jpg").code == 0
    assert asked[0][0] == [tmp_path / "a.jpg", Path("b.jpg")]


def test_a_sample_goes_to_a_folder_of_its_own(
    run: Run, stand_in: Callable[..., None], outcome: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def protect(paths: Sequence[Path], request: Request, **more: object) -> list[Outcome]:
        assert request.sample == 2
        assert request.output is not None
        assert request.output.is_dir()
        (request.output / "a.jpg").touch()
        return [outcome("a.jpg", output=str(request.output / "a.jpg"))]

    stand_in("hashshield.pipeline.protect", protect=protect)
    ended = run("protect", "a.jpg", "--sample", "2")
    said = re.search(r"Copies go to (.+); your photos stay as they are\.", ended.err)
    assert said is not None
    assert [path.name for path in Path(said[1]).iterdir()] == ["a.jpg"], "and stay there"


@pytest.mark.parametrize("more", [(), ("--batch-size", "0"), ("--for", "")], ids=" ".join)
def test_the_folder_of_a_sample_that_came_to_nothing_is_removed(
    more: tuple[str, ...], run: Run, asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run("protect", "a.jpg", "--sample", "2", *more).code == (2 if more else 0)
    assert not list(tmp_path.glob("hashshield-*"))


def test_patterns_left_over_by_the_shell_are_matched(run: Run, asked: list[Any], tmp_path: Path) -> None:
    for name in ("b.jpg", "a.jpg", "sub/c.jpg", "[x].png", "x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    words = ("*.jpg", "**/c.jpg", "[x].png", "*.gif")
    assert run("protect", *(tmp_path / word for word in words)).code == 0
    found = [str(path.relative_to(tmp_path)) for path in asked[0][0]]
    assert found == ["a.jpg", "b.jpg", "sub/c.jpg", "[x].png", "*.gif"]


@pytest.mark.parametrize("command", ["protect", "restore", "verify"])
def test_a_name_with_brackets_never_stands_for_another_photo(
    command: str, run: Run, stand_in: Callable[..., None], tmp_path: Path
) -> None:
    """Cameras and browsers write such names, and the photo may be gone."""
    calls: list[list[Path]] = []

    def record(paths: Sequence[Path], *rest: object, **named: object) -> list[Outcome]:
        calls.append(list(paths))
        return []

    stand_in(f"hashshield.pipeline.{command}", **{command: record})
    for name in ("IMG1.jpg", "IMG[2].jpg", "set[1]/a.jpg", "set1/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    run(command, *(tmp_path / name for name in ("IMG[1].jpg", "*[2].jpg", "set[1]/*.jpg")))
    assert [str(path.relative_to(tmp_path)) for path in calls[0]] == ["IMG[1].jpg", "IMG[2].jpg", "set[1]/a.jpg"]


def test_verbose_tells_what_was_measured(run: Run, asked: list[Any]) -> None:
    quiet, plain = run("protect", "a.jpg", "--verbose", "--quiet"), run("protect", "a.jpg")
    verbose = run("protect", "a.jpg", "-v")
    assert quiet.err == ""
    assert "from its own code" not in plain.err
    assert "a.jpg: lite0-caltech101:48 crop: 24 of 48 bits from its own code, 0 from the goal" in verbose.err
    assert "SSIM" in verbose.err
    assert "after jpeg q75" in verbose.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("a.jpg --redact", "give --report"),
        ("a.jpg --report r.html --dry-run", "leave one of them out"),
        ("a.jpg --report r.html --no-backup --yes", "leave one of them out"),
        ("a.jpg --report r.jpg", "must end in .html"),
        ("a.jpg --report none/r.html", "does not exist"),
        ("- --report r.html", "no --report can be made"),
    ],
)
def test_a_report_that_cannot_be_is_refused_before_the_work(
    words: str, said: str, run: Run, asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run("protect", *words.split())
    assert ended.code == 2
    assert said in ended.err
    assert asked == []


def test_a_report_is_written_beside_the_rows(
    run: Run, asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HASHSHIELD_VAULT", str(tmp_path / "vault"))
    ended = run("protect", "a.jpg", "--json", "--report", "full.html")
    assert json.loads(ended.out)["summary"]["count"] == 1
    assert "Report: full.html; it holds originals" in ended.err
    shared = run("protect", "a.jpg", "--report", "shared.html", "--redact")
    assert "Report: shared.html." in shared.err
    full, redacted = ((tmp_path / name).read_text("utf-8") for name in ("full.html", "shared.html"))
    assert "Keep this file to yourself" in full
    assert "Protected 1 of 1 photo" in full
    assert "For sharing" in redacted
