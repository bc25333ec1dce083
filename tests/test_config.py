from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashshield.config import SETTINGS, config_path, nearest, read_file, resolve, unknown_variables
from hashshield.errors import UsageError
from hashshield.types import Request

NO_FILE = Path("does-not-exist.toml")


def test_defaults_are_those_of_a_request() -> None:
    found = resolve(environ={}, path=NO_FILE)
    assert set(found) == set(SETTINGS)
    assert {value.source for value in found.values()} == {"default"}
    request = Request()
    assert found["model"].value == request.models
    assert found["goal"].value == request.goal.kind
    for key in (
        "method",
        "preset",
        "tau",
        "steps",
        "stop",
        "tolerance",
        "accept_best",
        "device",
        "batch_size",
        "jobs",
        "vault",
    ):
        assert found[key].value == getattr(request, key), key


def test_flag_then_environment_then_file_then_default(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('tau = 0.02\nsteps = 80\nmodel = ["a:16", "b"]\nstrip_gps = true\n')
    environ = {"HASHSHIELD_TAU": "0.01", "HASHSHIELD_STRIP_GPS": "0", "HASHSHIELD_JOBS": ""}
    found = resolve({"tau": 0.05, "steps": None}, environ=environ, path=file)
    assert (found["tau"].value, found["tau"].source, found["tau"].where) == (0.05, "flag", "--tau")
    assert (found["steps"].value, found["steps"].source, found["steps"].where) == (80, "file", str(file))
    assert (found["strip_gps"].value, found["strip_gps"].where) == (False, "HASHSHIELD_STRIP_GPS")
    assert found["model"].value == ("a:16", "b")
    assert found["jobs"].source == "default"
    assert resolve(environ=environ, path=file)["tau"].value == 0.01


def test_a_switch_that_is_off_was_not_given_and_a_zero_was() -> None:
    words = {"tolerance": 0, "strip_gps": False, "keep_mtime": True, "tau": None, "force": True}
    found = resolve(words, environ={"HASHSHIELD_STRIP_GPS": "1"}, path=NO_FILE)
    given = {key: value.value for key, value in found.items() if value.source == "flag"}
    assert given == {"tolerance": 0, "keep_mtime": True}
    assert found["strip_gps"].value is True
    assert found.keys() == SETTINGS.keys(), "an argument that is no setting is passed over"


@pytest.mark.parametrize("tau", [0.0, 1 / 255 - 1e-9, 1.0001, -1.0, math.nan, math.inf])
def test_tau_outside_its_range_is_a_usage_error_naming_the_range(tau: float) -> None:
    with pytest.raises(UsageError, match=r"--tau is .*between 1/255 .* and 1 \(default 0\.032\)"):
        resolve({"tau": tau}, environ={}, path=NO_FILE)
    with pytest.raises(UsageError, match="HASHSHIELD_TAU is"):
        resolve(environ={"HASHSHIELD_TAU": str(tau)}, path=NO_FILE)


@given(st.floats(1 / 255, 1))
def test_tau_inside_its_range_is_kept(tau: float) -> None:
    assert resolve({"tau": tau}, environ={}, path=NO_FILE)["tau"].value == tau
    assert resolve(environ={"HASHSHIELD_TAU": repr(tau)}, path=NO_FILE)["tau"].value == tau


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("STEPS", "many", "is not an integer"),
        ("STEPS", "0", "at least 1"),
        ("TAU", "0,02", "is not a number"),
        ("GOAL", "aside", "away, opposite, decoy, center"),
        ("METHOD", "RNM", "rnm, rnm-paper"),
        ("DEVICE", "gpu", "auto, cpu, cuda, mps"),
        ("STRIP_GPS", "maybe", "write 1 or 0"),
        ("MODEL", " , ", "names nothing"),
        ("TOLERANCE", "-1", "at least 0"),
    ],
)
def test_a_bad_variable_is_named(variable: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"HASHSHIELD_{variable} .*{message}"):
        resolve(environ={f"HASHSHIELD_{variable}": text}, path=NO_FILE)


def test_variables_spell_names_and_switches() -> None:
    environ = {"HASHSHIELD_MODEL": "a:16, b c,a:16", "HASHSHIELD_KEEP_MTIME": "Yes", "HASHSHIELD_VAULT": "~/v"}
    found = resolve(environ=environ, path=NO_FILE)
    assert found["model"].value == ("a:16", "b", "c")
    assert found["keep_mtime"].value is True
    assert found["vault"].value == Path.home() / "v"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tua = 0.02", "unknown key 'tua'; did you mean 'tau'"),
        ("batch-size = 4", "unknown key 'batch-size'; did you mean 'batch_size'"),
        ("zzzzzz = 1", "known: model, goal"),
        ("tau = 'much'", "must be a number"),
        ("tau = true", "must be a number"),
        ("steps = 4.5", "must be a whole number"),
        ("strip_gps = 1", "must be true or false"),
        ("model = [1]", "must be a name or a list of names"),
        ("model = []", "names nothing"),
        ("vault = 'relative/folder'", "absolute path"),
        ("tau = 2", "tau is 2.0, out of range"),
        ("tau = ", "not valid TOML"),
        ("[protect]\ntau = 1", "unknown key 'protect'"),
    ],
)
def test_a_bad_file_is_named_with_what_to_do(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as raised:
        read_file(file)
    assert str(file) in str(raised.value)
    assert message in str(raised.value)


def test_bytes_that_are_no_text_and_huge_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"tau = \xff")
    with pytest.raises(UsageError, match="not valid TOML"):
        read_file(file)
    file.write_bytes(b"#" * 70_000)
    with pytest.raises(UsageError, match="larger than 64 KiB"):
        read_file(file)


def test_an_unreadable_file_is_an_error_and_a_missing_one_is_not(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_file(tmp_path)
    assert read_file(tmp_path / "none.toml") == {}


def test_the_file_is_the_users_own_and_never_the_working_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "config.toml").write_text("tau = 0.5")
    (tmp_path / "hashshield.toml").write_text("tau = 0.5")
    monkeypatch.chdir(tmp_path)
    for setting in SETTINGS.values():
        monkeypatch.delenv(setting.env, raising=False)
    assert tmp_path / "home" in config_path().parents
    assert resolve()["tau"].source == "default"


def test_the_nearest_name_is_proposed() -> None:
    assert nearest("Device", ("device", "tau")) == "did you mean 'device'?"
    assert nearest("qqq", ("device", "tau")) == "known: device, tau"


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.key)
def test_every_default_passes_its_own_check(setting: object, tmp_path: Path) -> None:
    key = setting.key  # type: ignore[attr-defined]
    default = SETTINGS[key].default
    assert resolve({key: default}, environ={}, path=NO_FILE)[key].value == default


def test_a_setting_without_an_option_is_set_by_environment_and_file(tmp_path: Path) -> None:
    assert (SETTINGS["mirror"].option, SETTINGS["mirror"].env) == ("", "HASHSHIELD_MIRROR")
    file = tmp_path / "config.toml"
    file.write_text('mirror = "https://example.org/"\noffline = true\ncache = "~/networks"\n')
    found = resolve(environ={"HASHSHIELD_OFFLINE": "0"}, path=file)
    assert (found["mirror"].value, found["mirror"].where) == ("https://example.org/", str(file))
    assert (found["offline"].value, found["offline"].source) == (False, "environment")
    assert found["cache"].value == Path.home() / "networks"
    with pytest.raises(UsageError, match="HASHSHIELD_OFFLINE is 'maybe'; write 1 or 0"):
        resolve(environ={"HASHSHIELD_OFFLINE": "maybe"}, path=file)


def test_arguments_of_a_call_go_before_the_environment_and_are_named_as_they_are(tmp_path: Path) -> None:
    found = resolve(
        arguments={"tau": 1, "model": "a:16", "vault": tmp_path, "steps": None},
        environ={"HASHSHIELD_TAU": "0.5", "HASHSHIELD_STEPS": "7"},
        path=NO_FILE,
    )
    assert (found["tau"].value, found["tau"].source, found["tau"].where) == (1.0, "argument", "tau")
    assert found["model"].value == ("a:16",)
    assert found["vault"].value == tmp_path
    assert (found["steps"].value, found["steps"].source) == (7, "environment")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tau": "0.02"}, "tau is '0.02'; it must be a number"),
        ({"tau": True}, "tau is True; it must be a number"),
        ({"tau": 8}, "tau is 8.0, out of range; it must be between 1/255"),
        ({"steps": 2.5}, "steps is 2.5; it must be a whole number"),
        ({"model": ()}, "model names nothing"),
        ({"model": ("a", 1)}, "it must be a name or a list of names"),
        ({"goal": "awya"}, "goal is 'awya', which is unknown; did you mean 'away'? choose one of away"),
        ({"strip_gps": 1}, "strip_gps is 1; it must be true or false"),
        ({"vault": 3}, "vault is 3; it must be a string"),
    ],
)
def test_arguments_of_a_call_are_of_any_type_and_are_checked(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        resolve(arguments=arguments, environ={}, path=NO_FILE)
    assert str(raised.value).startswith(message) or message in str(raised.value)


def test_a_word_may_stand_for_none(tmp_path: Path) -> None:
    """So that a flag can undo what the environment or the file says."""
    environ = {"HASHSHIELD_BATCH_SIZE": "4"}
    assert resolve({"batch_size": "2"}, environ=environ, path=NO_FILE)["batch_size"].value == 2
    found = resolve({"batch_size": "auto"}, environ=environ, path=NO_FILE)["batch_size"]
    assert (found.value, found.source) == (None, "flag")
    assert resolve(arguments={"batch_size": "auto"}, environ=environ, path=NO_FILE)["batch_size"].value is None
    assert resolve(environ={"HASHSHIELD_BATCH_SIZE": "AUTO"}, path=NO_FILE)["batch_size"].source == "environment"
    file = tmp_path / "config.toml"
    file.write_text('batch_size = "auto"\n')
    assert resolve(environ={}, path=file)["batch_size"] == (None, "file", str(file))
    for flags, said in (({"batch_size": "many"}, "write one or auto"), ({"batch_size": "0"}, "at least 1")):
        with pytest.raises(UsageError, match=said):
            resolve(flags, environ={}, path=NO_FILE)
    file.write_text('batch_size = "many"\n')
    with pytest.raises(UsageError, match="it must be a whole number or auto"):
        resolve(environ={}, path=file)


def test_a_choice_that_is_nearly_one_is_guessed() -> None:
    with pytest.raises(
        UsageError, match=r"--goal is 'opposit', which is unknown; did you mean 'opposite'\? choose one"
    ):
        resolve({"goal": "opposit"}, environ={}, path=Path("none.toml"))
    with pytest.raises(UsageError, match="--goal is 'zzz', which is unknown; choose one of away, opposite"):
        resolve({"goal": "zzz"}, environ={}, path=Path("none.toml"))


def test_variables_that_are_no_settings_are_told_of() -> None:
    environ = {
        "HASHSHIELD_TUA": "0.02",
        "HASHSHIELD_VAULT": "/v",
        "HASHSHIELD_TEST_CAMERA_FILES": "/files",
        "HASHSHIELD": "",
        "HOME": "/h",
    }
    assert unknown_variables(environ) == ["HASHSHIELD_TUA: there is no setting 'tua'; did you mean 'tau'?"]
    assert unknown_variables({}) == []
