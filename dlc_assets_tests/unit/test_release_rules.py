"""Writing release rules into lab.yaml files as people write them: the new rule is there, and every other character stays."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from dlc_assets.lab.errors import BusyError, SettingsError
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.release_rules import PlacedRule, add_rules, rule_text, with_rules, writing_rules
from dlc_assets.lab.settings import LabSettings, ReleaseRule
from dlc_assets.lab.yaml_settings import read_settings

RULE = ReleaseRule(model="walker@0123456789ab", devices=("top",), first=date(2026, 11, 24))
TEXT = "{devices: [top], model: walker@0123456789ab, from: 2026-11-24}"
WRITTEN_BY_HAND = {
    "no key": "name: x\n# release:\n#   - {model: a}\n",
    "no line end": "name: x",
    "a list before the end": "name: x\nexperimenters:\n  - a\n  - b # who\n",
    "a document with marks": "---\nname: x\n...\n",
    "text kept to its last line end": "name: x\ninstitution: |+\n  text\n\n\n",
    "all in braces": "{name: x, devices: {top: {}}}",
    "braces with a last comma": "{name: x,\n}",
    "empty": "name: x\nrelease: []   # none yet\nanalyze: {auto: true}\n",
    "empty over lines": "name: x\nrelease: [\n  # nothing\n]\n",
    "brackets": "release:   [ {model: a} ,{model: b}]\nname: x\n",
    "brackets over lines": "release: [\n  {model: a},  # one\n  {model: b}\n]\nname: x",
    "a list": "release:   # first wins\n  # of a\n  - {model: a}\n\n  # of b\n  - model: b\n    devices: [top]\n  # end\nname: x\n",
    "a list without indent": "release:\n- model: a\n- model: b\nname: x\n",
    "Windows line ends": "name: x\r\nrelease:\r\n  - {model: a}\r\n  - {model: b}\r\n",
    "dashes alone": "release:\n  -\n    model: a\n  - # of b\n    model: b\nname: x",
    "all indented": "  name: x\n  release:\n    - model: a\n    - model: b\n  institution: y\n",
    "question marks": "? release\n: - model: a\n  - model: b\nname: x\n",
    "a byte order mark": "\ufeffname: x\nrelease:\n  - model: a\n  - model: b\n",
    "anchors": "name: x\nrelease: &rules\n  - &first {model: a}\n  - model: b\n",
    "the last line without an end": "name: x\nrelease:\n  - model: a\n  - model: >-\n      b",
    "folded text": "release:\n  - model: a\n  - model: >-\n      b\nname: x\n",
    "accents": "name: Zoë\nrelease:\n  - {model: a, devices: [größe]}\n",
}


@pytest.mark.parametrize("text", WRITTEN_BY_HAND.values(), ids=WRITTEN_BY_HAND.keys())
def test_a_rule_is_added_at_every_place_and_nothing_else_changes(text: str, tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_bytes(text.encode())
    before = read_settings(path, LabSettings)
    for place in range(len(before.release) + 1):
        new = PlacedRule(RULE, place)
        written = add_rules(text.encode(), [new], path)
        path.write_bytes(written)
        after = read_settings(path, LabSettings)
        assert after.release == with_rules(before.release, [new])
        assert after.model_copy(update={"release": ()}) == before.model_copy(update={"release": ()})
        assert written.count(TEXT.encode()) == 1
        left = written.decode().split(TEXT)
        assert_only_added(text, left[0], left[1])
        assert (b"\r\n" in written) == ("\r\n" in text)
        assert written.count(b"\n") - written.count(b"\r\n") == 0 or "\r\n" not in text


def assert_only_added(text: str, head: str, tail: str) -> None:
    """Say whether *text* is the start of *head* and the end of *tail*, with marks of YAML alone put between."""
    for cut in range(len(text) + 1):
        if head.startswith(text[:cut]) and tail.endswith(text[cut:]):
            added = head[cut:] + tail[: len(tail) - len(text[cut:])]
            if not added.replace("release:", "").strip(" -,[]\r\n"):
                return
    pytest.fail(f"{head!r} and {tail!r} hold more than {text!r} and a rule")


def test_what_is_said_of_a_rule_stays_above_it() -> None:
    text = "release:\n  # all cameras\n  - model: a\n\n  # only this one\n  - model: b\n"
    assert add_rules(text.encode(), [PlacedRule(RULE, 0), PlacedRule(RULE, 1)], Path("lab.yaml")).decode() == (
        f"release:\n  - {TEXT}\n  # all cameras\n  - model: a\n\n  - {TEXT}\n  # only this one\n  - model: b\n"
    )


def test_names_that_yaml_would_read_otherwise_are_quoted(tmp_path: Path) -> None:
    rule = ReleaseRule(model="walker@0123456789ab", devices=("001", "yes", "a: b", "größe"), until=date(2026, 1, 2))
    text = f"name: x\nrelease:\n  - {rule_text(rule)}\n"
    path = tmp_path / "lab.yaml"
    path.write_text(text)
    assert read_settings(path, LabSettings).release == (rule,)
    assert "größe" in text


@pytest.mark.parametrize(
    "text",
    ["name: x\nexperimenters: &e []\nrelease: *e\n", "<<: {release: [{model: a}]}\nname: x\n"],
    ids=["another key's list", "merged"],
)
def test_rules_that_stand_somewhere_else_are_left_to_a_person(text: str, tmp_path: Path) -> None:
    layout = LabLayout(tmp_path)
    layout.settings_file.write_text(text)
    refused = pytest.raises(SettingsError, match=r"Nothing was changed. Write it by hand.*walker@0123456789ab")
    with refused, writing_rules(layout, text.encode(), [PlacedRule(RULE, 0)]):
        pytest.fail("it was prepared")
    assert layout.settings_file.read_text() == text


def test_a_file_that_changes_meanwhile_is_left_as_it_is(tmp_path: Path) -> None:
    layout = LabLayout(tmp_path)
    layout.settings_file.write_text("name: x\n")
    refused = pytest.raises(BusyError, match="changed by somebody else meanwhile: nothing was written")
    with refused, writing_rules(layout, b"name: x\n", [PlacedRule(RULE, 0)]):
        layout.settings_file.write_text("name: y\n")
    assert layout.settings_file.read_text() == "name: y\n"
    with pytest.raises(BusyError), writing_rules(layout, b"name: x\n", [PlacedRule(RULE, 0)]):
        pytest.fail("it was prepared")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["lab.yaml"]


def test_a_link_stays_a_link_and_the_file_keeps_its_mode(tmp_path: Path) -> None:
    real = tmp_path / "shared.yaml"
    real.write_text("name: x\n")
    real.chmod(0o640)
    layout = LabLayout(tmp_path / "lab")
    layout.root.mkdir()
    layout.settings_file.symlink_to(real)
    with writing_rules(layout, b"name: x\n", [PlacedRule(RULE, 0)]):
        pass
    assert layout.settings_file.is_symlink()
    assert TEXT in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o640


def test_an_error_while_it_is_written_down_changes_nothing(tmp_path: Path) -> None:
    layout = LabLayout(tmp_path)
    layout.settings_file.write_text("name: x\n")
    with pytest.raises(ZeroDivisionError), writing_rules(layout, b"name: x\n", [PlacedRule(RULE, 0)]) as written:
        _ = len(written) / 0
    assert layout.settings_file.read_text() == "name: x\n"
