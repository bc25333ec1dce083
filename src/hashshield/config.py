"""Settings. Each comes from the first of these that gives a value: flag or argument, environment, TOML file, default.

The file is read only from the user's configuration folder, never from the working folder or a photo folder: a file
planted beside photos must not change what is done to them. `SETTINGS` lists the keys; `resolve` returns the values.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hashshield.errors import UsageError
from hashshield.text import did_you_mean, read_toml
from hashshield.visible import MOST, WORDS

__all__ = [
    "SETTINGS",
    "Setting",
    "Settings",
    "Source",
    "Value",
    "config_path",
    "nearest",
    "read_file",
    "resolve",
    "unknown_variables",
]

Source = Literal["flag", "argument", "environment", "file", "default"]
ValueKind = Literal["number", "integer", "text", "names", "switch", "path"]

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
_LARGEST_FILE = 64 * 1024
"""Largest configuration file, in bytes; a few hundred are usual."""


class Setting(NamedTuple):
    """One key of the configuration file, and the rules for its values."""

    key: str
    kind: ValueKind
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    """The words accepted; for a number, in addition to numbers."""
    low: float = -math.inf
    high: float = math.inf
    range_text: str = ""
    flag: str | None = ""
    """The option that sets it; "" means the key with dashes, None that there is no option."""
    unset: str = ""
    """The word that users write for None; empty if there is none."""

    @property
    def env(self) -> str:
        """The environment variable that sets it."""
        return f"HASHSHIELD_{self.key.upper()}"

    @property
    def option(self) -> str:
        """The command-line option that sets it; empty if none does."""
        if self.flag is None:
            return ""
        return self.flag or f"--{self.key.replace('_', '-')}"

    @property
    def default_text(self) -> str:
        """The default as a user would type it; empty if there is none."""
        if self.default is None:
            return self.unset
        if self.kind == "switch":
            return "on" if self.default else "off"
        return ", ".join(self.default) if self.kind == "names" else str(self.default)


class Value(NamedTuple):
    """A resolved setting and its source."""

    value: Any
    source: Source
    where: str
    """The option, argument, variable or file that set it, as messages name it."""


Settings = dict[str, Value]

# The defaults repeat those of `types.Request`, because importing its classes would add a tenth to the time of --help;
# tests/cli/test_protect.py checks that the two agree.
SETTINGS: dict[str, Setting] = {
    setting.key: setting
    for setting in (
        Setting("model", "names", ("lite0-caltech101:48",), "networks to search against", flag="--model"),
        Setting(
            "goal",
            "text",
            "away",
            "what the bits should become when no target is given",
            choices=("away", "opposite", "decoy", "center"),
        ),
        Setting(
            "method",
            "text",
            "rnm",
            "the search",
            choices=("rnm", "rnm-paper", "tanh", "hag", "noise"),
        ),
        Setting(
            "preset",
            "text",
            "balanced",
            "what the search prepares for",
            choices=("invisible", "balanced", "strong"),
        ),
        Setting(
            "tau",
            "number",
            0.032,
            "largest change of any pixel, in [0, 1] units",
            low=1 / 255,
            high=1.0,
            range_text="between 1/255 (one 8-bit level) and 1",
        ),
        Setting(
            "max_visible",
            "number",
            None,
            "highest visibility of a written photo; unset: the preset's own",
            choices=tuple(WORDS),
            low=0.0,
            high=MOST,
            range_text=f"between 0 and {MOST:g}",
        ),
        Setting(
            "steps",
            "integer",
            None,
            "gradient steps per photo; unset: the method's own",
            low=1,
            range_text="at least 1",
        ),
        Setting("stop", "text", "budget", "when the search ends", choices=("budget", "first")),
        Setting("tolerance", "integer", None, "bits a targeted code may be off", low=0, range_text="at least 0"),
        Setting("accept_best", "switch", False, "write the best found even when the goal was not reached"),
        Setting("device", "text", "auto", "where the networks run", choices=("auto", "cpu", "cuda", "mps")),
        Setting(
            "batch_size",
            "integer",
            None,
            "photos searched at once; auto: as many as fit into the device's memory",
            low=1,
            range_text="at least 1",
            unset="auto",
        ),
        Setting("jobs", "integer", None, "threads that read and write photos", low=1, range_text="at least 1"),
        Setting("vault", "path", None, "folder of originals and ledger"),
        Setting("strip_copies", "switch", False, "remove unprotected copies from the file"),
        Setting("strip_gps", "switch", False, "remove the position"),
        Setting("strip_metadata", "switch", False, "remove all metadata but orientation and colour profile"),
        Setting(
            "remove_credentials",
            "switch",
            False,
            "remove content credentials (C2PA), which no longer match",
        ),
        Setting("keep_mtime", "switch", False, "keep the modification time"),
        Setting("lossy_formats", "switch", False, "accept HEIC and AVIF, which lose a little with each writing"),
        Setting(
            "witness",
            "text",
            "auto",
            "network kept out of the search, to check the result with: auto, none or a name",
        ),
        Setting("survival", "switch", False, "also measure what survives the processing that services apply"),
        Setting("exclude", "names", (), "shell patterns of files and folders to skip"),
        Setting("cache", "path", None, "folder of downloaded and imported networks", flag=None),
        Setting(
            "mirror",
            "text",
            None,
            "where networks are downloaded from: an http or https address, or a folder",
            flag=None,
        ),
        Setting("offline", "switch", False, "download nothing; only a folder may be the mirror", flag=None),
    )
}


def config_path() -> Path:
    """Return the path of the configuration file, whether it exists or not."""
    from platformdirs import user_config_path

    return user_config_path("hashshield", appauthor=False) / "config.toml"


def nearest(word: str, known: Sequence[str]) -> str:
    """Return the end of an error message: the known name closest to `word`, or all known names if none is close."""
    return did_you_mean(word, known, quoted=True) or f"known: {', '.join(known)}"


def read_file(path: Path) -> dict[str, Any]:
    """Return the values in a configuration file, converted to their settings' types; empty if there is no file.

    Raises UsageError for a file that cannot be read or parsed, an unknown key or an invalid value.
    """
    try:
        size = path.stat().st_size
        raw = read_toml(path, largest=_LARGEST_FILE) if size <= _LARGEST_FILE else {}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); fix its permissions or remove it") from error
    except ValueError as error:
        raise UsageError(f"{path}: not valid TOML ({error}); fix that line") from error
    if size > _LARGEST_FILE:
        raise UsageError(f"{path}: larger than {_LARGEST_FILE // 1024} KiB, too large for a configuration; remove it")
    for key in raw:
        if key not in SETTINGS:
            raise UsageError(f"{path}: unknown key {key!r}; {nearest(key, tuple(SETTINGS))}")
    found = {key: _from_toml(SETTINGS[key], value, path) for key, value in raw.items()}
    for key, value in found.items():
        _check(SETTINGS[key], value, str(path))
    return found


def resolve(
    flags: Mapping[str, Any] | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    path: Path | None = None,
) -> Settings:
    """Return every setting with its source.

    `flags` are the arguments of a command, whose types the command line has checked; keys that are not settings are
    ignored, so a command can pass a copy of its `locals()`. `arguments` are those of a Python call, checked here. None
    counts as not given. So does a False flag, because switches have no negative form: the environment or the file may
    still turn it on. Raises UsageError naming the option, argument, variable or file with an invalid value.
    """
    flags, arguments = flags or {}, arguments or {}
    for key, value in arguments.items():
        if key not in SETTINGS and value is not None:
            raise UsageError(f"unknown argument {key!r}; {nearest(key, tuple(SETTINGS))}")
    environ = os.environ if environ is None else environ
    path = config_path() if path is None else path
    from_file = read_file(path)
    found: Settings = {}
    for key, setting in SETTINGS.items():
        source: Source
        value, text = flags.get(key), environ.get(setting.env, "")
        # Compared by identity, because 0 (as in --tolerance 0) equals False.
        if value is not None and value is not False:
            source, where = "flag", setting.option
            if isinstance(value, str):
                value = _from_text(setting, value, where)
        elif arguments.get(key) is not None:
            source, where = "argument", key
            value = _typed(setting, arguments[key], where)
        elif text:
            source, where = "environment", setting.env
            value = _from_text(setting, text, where)
        elif key in from_file:
            source, where, value = "file", str(path), from_file[key]
        else:
            source, where, value = "default", "default", setting.default
        if source != "default":
            _check(setting, value, where)
        found[key] = Value(_normal(setting, value, where), source, where)
    return found


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """Return a warning for each HASHSHIELD_ variable that names no setting and therefore has no effect.

    Such variables are not errors, because another program may have set them.
    """
    known = {setting.env for setting in SETTINGS.values()}
    words = {
        name: name.removeprefix("HASHSHIELD_").lower()
        for name in sorted(os.environ if environ is None else environ)
        if name.startswith("HASHSHIELD_") and not name.startswith("HASHSHIELD_TEST_") and name not in known
    }
    return [f"{name}: there is no setting {word!r}; {nearest(word, tuple(SETTINGS))}" for name, word in words.items()]


def _from_text(setting: Setting, text: str, where: str) -> Any:
    """Parse the text of a variable or option and return its value. Raises UsageError."""
    if setting.unset and text.lower() == setting.unset:
        return None
    if setting.kind == "names":
        return tuple(name for name in re.split(r"[,\s]+", text) if name)
    if setting.kind == "switch":
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise UsageError(f"{where} is {text!r}; write 1 or 0")
    if setting.kind in ("number", "integer") and text not in setting.choices:
        try:
            return float(text) if setting.kind == "number" else int(text)
        except ValueError:
            instead = setting.unset or _listed(setting.choices) or "unset it"
            article = "an" if setting.kind == "integer" else "a"
            raise UsageError(
                f"{where} is {text!r}, which is not {article} {setting.kind}; write one or {instead}"
            ) from None
    return text


def _from_toml(setting: Setting, value: Any, path: Path) -> Any:
    """Return a TOML value converted to the setting's type. Raises UsageError."""
    found = _typed(setting, value, f"{path}: {setting.key}")
    if setting.kind == "path" and not _expanded(value, f"{path}: {setting.key}").is_absolute():
        raise UsageError(f"{path}: {setting.key} is {value!r}; it must be an absolute path or start with ~")
    return found


def _typed(setting: Setting, value: Any, label: str) -> Any:
    """Return the value, converted to the setting's type. Raises UsageError for a type that it does not accept."""
    if setting.unset and value == setting.unset:
        return None
    if setting.kind == "number" and value in setting.choices:
        return value
    expected: dict[ValueKind, tuple[str, tuple[type, ...]]] = {
        "number": ("a number", (int, float)),
        "integer": ("a whole number", (int,)),
        "switch": ("true or false", (bool,)),
        "names": ("a name or a list of names", (str, list, tuple)),
        "text": ("a string", (str,)),
        "path": ("a string", (str, os.PathLike)),
    }
    words, types = expected[setting.kind]
    instead = setting.unset or (_listed(setting.choices) if setting.kind == "number" else "")
    fits = isinstance(value, types) and (setting.kind == "switch" or not isinstance(value, bool))
    if not fits or (isinstance(value, (list, tuple)) and not all(isinstance(name, str) for name in value)):
        raise UsageError(f"{label} is {value!r}; it must be {words}{f' or {instead}' if instead else ''}")
    if setting.kind == "names" and isinstance(value, str):
        return (value,)
    return float(value) if setting.kind == "number" else value


def _check(setting: Setting, value: Any, where: str) -> None:
    """Raise UsageError, naming the range or the choices, for a value that the setting does not accept."""
    if value is None:
        return
    label = where if where in (setting.option, setting.env, setting.key) else f"{where}: {setting.key}"
    if value in setting.choices:
        return
    if setting.choices and setting.kind == "text":
        suggestion = did_you_mean(str(value), setting.choices, quoted=True)
        choose = f"{suggestion} choose one of" if suggestion else "choose one of"
        raise UsageError(f"{label} is {value!r}, which is unknown; {choose} {', '.join(setting.choices)}")
    if setting.kind in ("number", "integer") and not setting.low <= value <= setting.high:
        raise UsageError(
            f"{label} is {value}, out of range; it must be {setting.range_text}"
            + (f" (default {setting.default_text})" if setting.default is not None else "")
        )
    if setting.kind == "names" and ((not value and setting.default) or not all(value)):
        raise UsageError(f"{label} names nothing; give at least one name (default {setting.default_text})")
    if setting.kind == "path" and not str(value):
        raise UsageError(f"{label} is empty; name a folder")


def _listed(words: Sequence[str]) -> str:
    """Return `one of the words A, B` for the end of a message; "" for no words."""
    return f"one of the words {', '.join(words)}" if words else ""


def _normal(setting: Setting, value: Any, where: str) -> Any:
    """Return the value with each name once, in order, and a path in full. Raises UsageError."""
    if setting.kind == "names":
        return tuple(dict.fromkeys(value))
    return _expanded(value, where) if setting.kind == "path" and value is not None else value


def _expanded(path: str | os.PathLike[str], label: str) -> Path:
    """Return the path with a leading ~ replaced by the user's home folder. Raises UsageError if there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{label} is {str(path)!r}, and the home folder that it begins with is not known; write the whole path"
        ) from None
