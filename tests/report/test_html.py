from __future__ import annotations

import base64
import hashlib
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hashshield.errors import UsageError
from hashshield.pipeline.protect import protect
from hashshield.report.html import check_place, page, write
from hashshield.storage import Store, digest
from hashshield.types import CodeRow, Evaluation, Outcome, PerceptualRow, Request, SurvivalRow, WitnessRow
from hashshield.visible import word
from tiny_net import encoded, picture

Pair = Callable[..., Evaluation]

HOSTILE = (
    "<script>alert(1)</script>.png",
    '"><img src=x onerror=alert(1)>.png',
    "' onmouseover='alert(1).png",
    "{{ 7 * 7 }}{% raw %}.png",
    "</style><script>x</script>&lt;b&gt;.png",
    "\u202egnp.exe",
    "\x1b[31mred\x07.png",
)


class Run(NamedTuple):
    rows: Sequence[Outcome]
    original: bytes
    vault: Path


@pytest.fixture(scope="module")
def asked(tiny: Path) -> Callable[..., Request]:
    """A request on the tiny network."""

    def make(vault: Path, **changes: Any) -> Request:
        settings = {"preset": "invisible", "steps": 60, "vault": vault, "device": "cpu", "seed": 1, "witness": "none"}
        return Request(models=(f"{tiny}:16",), **{**settings, **changes})

    return make


@pytest.fixture(scope="module")
def done(asked: Callable[..., Request], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One photo protected in place."""
    folder = tmp_path_factory.mktemp("run")
    photo = folder / "photos" / "a.png"
    photo.parent.mkdir()
    photo.write_bytes(encoded(picture(seed=4)))
    original = photo.read_bytes()
    rows = protect([photo.parent], asked(folder / "vault"), progress=Quiet())
    assert [row.status for row in rows] == ["protected"]
    return Run(rows, original, folder / "vault")


class Parsed(HTMLParser):
    """A page as a browser takes it apart."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: dict[str, str] = {}
        self.words: list[str] = []
        self._in: list[str] = []
        self.feed(data.decode("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = [tag] if tag in ("script", "style") else []

    def handle_endtag(self, tag: str) -> None:
        self._in = []

    def handle_data(self, data: str) -> None:
        if self._in:
            self.inline[self._in[0]] = self.inline.get(self._in[0], "") + data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def outcome(path: str, **other: Any) -> Outcome:
    plain: dict[str, Any] = {"model": "tiny:16", "bits": 16, "goal": "away", "psnr_db": 47.0, "tau": 0.032}
    return Outcome(path, **{"status": "failed", **plain, **other})


def everywhere(text: str) -> list[Outcome | Evaluation]:
    """Rows with this text wherever a string can stand."""
    row = outcome(
        text,
        reason=text,
        output=text,
        model=text,
        method=text,
        goal=f"image:{text}",
        codes=(CodeRow(text, 16, text, 8, 0, 0.3),),
        survival=(SurvivalRow(text, text, text, 1, 1, False),),
        witness=(WitnessRow(text, 16, text, 8, True),),
        perceptual=(PerceptualRow(text, 64, 10, 2, True),),
        unprotected_copies=(text,),
        links_to_owner=(text,),
    )
    return [row, Evaluation(text, text, "failed", reason=text)]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("redact", [False, True])
def test_no_string_becomes_markup(text: str, redact: bool) -> None:
    harmless = re.sub(r"[^/]", "x", text)
    plain = Parsed(page(everywhere(harmless), command="protect", said=[harmless], redact=redact))
    found = Parsed(page(everywhere(text), command="protect", said=[text], redact=redact))
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(names) for _, names in found.tags] == [sorted(names) for _, names in plain.tags]
    assert found.inline == plain.inline


def test_a_name_is_readable_and_cannot_reorder_the_page() -> None:
    found = Parsed(page(everywhere("<b>\u202egnp.exe\udcff"), command="protect"))
    assert "<b>\\u202egnp.exe\\xff" in found.text


def test_the_policy_allows_this_script_and_this_style_only(pair: Pair) -> None:
    found = Parsed(page([pair()], command="evaluate"))
    (policy,) = [names["content"] for tag, names in found.tags if names.get("http-equiv") == "Content-Security-Policy"]
    hashes = {
        tag: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for tag, text in found.inline.items()
    }
    assert str(policy).split("; ") == [
        "default-src 'none'",
        "img-src data:",
        f"style-src 'sha256-{hashes['style']}'",
        f"script-src 'sha256-{hashes['script']}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    for _, names in found.tags:
        assert not [name for name in names if name.startswith("on") or name == "style"]
        for place in (names.get("src"), names.get("href")):
            assert place is None or place.startswith(("data:", "#"))


def test_the_page_of_a_run_has_both_photos_and_the_receipt(done: Run) -> None:
    with Store.open(done.vault) as store:
        found = Parsed(page(done.rows, command="protect", said=["All is well."], store=store))
    (row,) = done.rows
    assert {names["class"] for tag, names in found.tags if tag == "img"} == {"before", "after", "change"}
    for words in (
        "Keep this file to yourself",
        f"{row.psnr_db:.1f} dB",
        f"{row.visibility:.2f}, {row.visibility_word}",
        f"visible: {row.visibility_word}",
        "Most visible change",
        f"{row.evaluations} network evaluations",
        f"{row.distance_from_original} of 16",
        "jpeg q75",
        "All is well.",
        str(Path(row.path).parent),
    ):
        assert words in found.text


@pytest.mark.parametrize("kind", ["in place", "already", "copies"])
def test_a_page_to_share_holds_nothing_of_the_original(
    kind: str, done: Run, asked: Callable[..., Request], tmp_path: Path
) -> None:
    rows, folder = done.rows, Path(done.rows[0].path).parent
    if kind == "already":
        rows = protect([folder], asked(done.vault), progress=Quiet())
    elif kind == "copies":
        photo = tmp_path / "a.png"
        photo.write_bytes(done.original)
        rows = protect([photo], asked(done.vault, output=tmp_path / "out"), progress=Quiet())
        folder = tmp_path
    with Store.open(done.vault) as store:
        full, shared = (
            page(rows, command="protect", said=[str(folder)], store=store, redact=redact) for redact in (False, True)
        )
    assert b'class="before"' in full
    assert [names["class"] for tag, names in Parsed(shared).tags if tag == "img"] == ["only"]
    assert digest(done.original)[:12].encode() not in full + shared
    assert str(folder).encode() in full
    assert str(folder).encode() not in shared
    assert str(rows[0].sha256_after).encode() not in shared
    images = re.findall(rb"data:image/webp;base64,([A-Za-z0-9+/=]+)", full)
    assert [uri in shared for uri in images] == [True, False, False]


def test_reasons_are_left_out_of_a_page_to_share() -> None:
    rows = [outcome("/home/me/a.jpg", reason="/home/me/a.jpg: cannot be read"), outcome("/m/b.jpg", status="short")]
    shared = page(rows, command="protect", redact=True)
    assert b"/home/me" not in shared
    assert b"/home/me/a.jpg: cannot be read" in page(rows, command="protect")


def test_a_file_changed_since_has_no_pictures_but_its_receipt(done: Run, tmp_path: Path) -> None:
    moved = replace(done.rows[0], path=str(tmp_path / "a.png"))
    Path(moved.path).write_bytes(encoded(picture(seed=9)))
    with Store.open(done.vault) as store:
        found = Parsed(page([moved], command="protect", store=store))
    assert "was changed or moved since it was protected" in found.text
    assert not [tag for tag, _ in found.tags if tag == "img"]
    assert "jpeg q75" in found.text


def test_photos_of_different_sizes_cannot_be_laid_over_each_other(pair: Pair) -> None:
    row = pair()
    Path(row.protected).write_bytes(encoded(picture(40, 40)))
    assert "differ in size" in Parsed(page([row], command="evaluate")).text


def test_of_very_many_photos_the_most_changed_are_shown(pair: Pair) -> None:
    row = pair()
    rows = [Evaluation(row.original, row.protected, "compared", psnr_db=40 + i / 10) for i in range(203)]
    found = Parsed(page(rows, command="evaluate"))
    assert sum(names.get("class") == "before" for _, names in found.tags) == 200
    assert "The 3 photos that were changed least are listed without pictures" in found.text
    assert sum(tag == "article" for tag, _ in found.tags) == 203


def test_what_was_not_measured_is_said_and_not_counted() -> None:
    code = CodeRow("m:16", 16, "card", 8, 0, 0.3)
    kept = SurvivalRow("jpeg q75", "m:16", "card", 8, 0, True)
    refused = SurvivalRow("webp q80", "m:16", "card", reason="too large")
    hashes = (PerceptualRow("pdq", 256, 31, 12, True), PerceptualRow("phash", 64, 10, reason="not installed"))
    row = outcome("a.jpg", status="short", codes=(code,), survival=(kept, refused), perceptual=hashes)
    written = replace(row, status="protected")
    found = Parsed(page([row, written], command="protect")).text
    assert "webp q80 not measured" in found
    assert "pdq 12 of 256 matches" in found
    assert "phash not measured" in found
    assert "jpeg q75 1 of 1" in found
    assert "webp q80 0 of" not in found


def test_a_page_without_photos() -> None:
    assert "0 photos" in Parsed(page([], command="protect", said=["No photos were found."])).text


def test_the_file_is_private_and_replaces_only_its_like(pair: Pair, tmp_path: Path) -> None:
    place = tmp_path / "report.html"
    for _ in range(2):
        check_place(place)
        write(place, [pair()], command="evaluate")
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    place.write_bytes(b"<!doctype html>\n<title>mine</title>")
    for refused in (lambda: check_place(place), lambda: write(place, [pair()], command="evaluate")):
        with pytest.raises(UsageError, match="none of these pages"):
            refused()
    assert place.read_bytes() == b"<!doctype html>\n<title>mine</title>"


def test_places_no_page_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "link.html").symlink_to("/etc/passwd")
    for name, said in {
        "a.jpg": "must end in .html",
        "none/a.html": "does not exist",
        "folder.html": "none of these pages",
        "link.html": "none of these pages",
    }.items():
        with pytest.raises(UsageError, match=said):
            check_place(tmp_path / name)


class Quiet:
    def start(self, total: int) -> None: ...

    def photo(self, path: str) -> None: ...

    def done(self, outcome: object) -> None: ...

    def notice(self, text: str) -> None: ...


def survived(*passed: bool) -> tuple[SurvivalRow, ...]:
    return tuple(SurvivalRow("jpeg q75", "m:16", view, 8, 0, kept) for view, kept in zip("ab", passed, strict=False))


MIXED = (
    outcome("good.jpg", status="protected", psnr_db=45.0, survival=survived(True, True), preset="balanced"),
    outcome("skip.txt", status="skipped", psnr_db=None),
    outcome("lost.jpg", status="protected", psnr_db=41.0, survival=survived(True, False), preset="balanced"),
    outcome("worse.jpg", status="protected", psnr_db=38.0, survival=survived(True, True), preset="balanced"),
    outcome("short.jpg", status="short", psnr_db=36.0, survival=survived(False), preset="balanced"),
    outcome("broken.jpg", psnr_db=None),
)


def test_the_worst_come_first_each_with_its_verdict() -> None:
    found = Parsed(page(MIXED, command="protect"))
    cards = [names for tag, names in found.tags if tag == "article"]
    assert [names["data-verdict"] for names in cards] == [
        "failed",
        "short",
        "lost",
        "protected",
        "protected",
        "skipped",
    ]
    order = ["broken.jpg", "short.jpg", "lost.jpg", "worse.jpg", "good.jpg", "skip.txt"]
    places = [found.text.rindex(name) for name in order]
    assert places == sorted(places)
    assert "protected, not after JPEG q75" in found.text
    values = [names["value"] for tag, names in found.tags if tag == "input" and names.get("name") == "verdict"]
    assert values == ["", "failed", "short", "lost", "protected", "skipped"]


def test_what_survives_has_a_tile_like_what_was_protected_and_the_preset_is_named() -> None:
    text = Parsed(page(MIXED, command="protect")).text
    assert "Protected 3 of 5 Kept after JPEG q75 2 of 3 Lowest PSNR 36.0 dB median 39.5 dB" in text
    assert "HashShield protect, preset balanced" in text
    assert "Goal kept after" not in text  # the table: with one transform it would repeat the tile


def test_one_verdict_needs_no_filter() -> None:
    found = Parsed(page(MIXED[3:4], command="protect"))
    assert not [names for _, names in found.tags if names.get("name") == "verdict"]


def test_visibility_has_a_tile_and_an_order_where_it_was_measured() -> None:
    rows = [
        Outcome(f"{i}.jpg", "protected", psnr_db=40.0 - i, visibility=value, visibility_word=word(value))
        for i, value in enumerate((0.31, 1.42, 0.5))
    ]
    text = Parsed(page(rows, command="protect")).text
    assert "Most visible change 1.42, some median 0.50" in text
    assert text.index("1.jpg") < text.index("2.jpg") < text.index("0.jpg")
    assert "Most visible change" not in Parsed(page(MIXED, command="protect")).text
