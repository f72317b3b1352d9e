"""Nothing is deleted that something names; what nothing names goes to the trash on request, whole, and from there for good."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from dlc_assets.cli import app
from dlc_assets.forgetting import forget, refuse_to_forget, what_is_meant
from dlc_assets.lab.cohorts import freezing, keep_cohort
from dlc_assets.lab.errors import BusyError, EnvironmentProblem, NotFoundError
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.records import read_records
from dlc_assets.lab.trash import empty_trash, trash_entries
from dlc_assets.partitions import MODEL, SESSION, add_keys
from dlc_assets.recordings.removal import remove_session
from dlc_assets.state.versions import version_states
from dlc_assets.training.models import ModelVersion, damage_of, find_version, versions
from dlc_assets.training.removal import references_to, remove_model, remove_version
from dlc_assets_tests.conftest import environment_without_lab, use_lab
from dlc_assets_tests.graph import small_lab
from dlc_assets_tests.graph.small_lab import FIRST, SECOND

OLD, NEW = "aaaa00001111", "bbbb00001111"


def quiet(_: str) -> None:
    """Take a line of the log."""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab whose model `walker` has an old version that nothing names, and a current one."""
    root = tmp_path / "lab"
    small_lab.write_small_lab(root)
    use_lab(root, monkeypatch)
    lab = open_lab_folder(root)
    small_lab.as_if_trained(lab, version=OLD)
    small_lab.as_if_trained(lab, version=NEW)
    for version in (OLD, NEW):
        folder = lab.layout.version("walker", version)
        (folder / "snapshot.pt").write_bytes(b"weights " * 1000)
        (folder / "pytorch_config.yaml").write_text("net_type: resnet_50\n")
    return lab


def old(lab: Lab) -> ModelVersion:
    return ModelVersion("walker", OLD, lab.layout.version("walker", OLD))


def files_of(folder: Path) -> dict[str, bytes]:
    kept = {path for path in folder.rglob("*") if path.is_file() and "locks" not in path.parts}
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(kept)}


def dlc_assets(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# --- what keeps a version -----------------------------------------------------------------------------


def release(lab: Lab) -> None:
    settings = lab.layout.settings_file
    settings.write_text(settings.read_text().replace("model: walker}", f"model: walker@{OLD[:6]}}}"))


def freeze(lab: Lab) -> None:
    with freezing(lab.layout):
        keep_cohort(
            lab.layout, "spring", sessions={FIRST: {"walker": OLD}}, recordings={}, poses={}, filters={}, reason=""
        )


def analyse(lab: Lab) -> None:
    small_lab.record(lab, FIRST)
    small_lab.as_if_analysed(lab, FIRST, version=OLD)


def export(lab: Lab) -> None:
    path = lab.layout.nwb_manifest(FIRST)
    path.parent.mkdir(parents=True)
    details = {"path": "first.nwb", "models": {"walker": OLD}}
    Manifest(asset="nwb_file", key=FIRST, inputs={}, data_version="n", details=details).write(path)


def start_from(lab: Lab) -> None:
    lab.layout.specification("jumper").write_text(f"project: walking\nweights: model:walker@{OLD[:4]}\n")


def start_from_in_a_broken_specification(lab: Lab) -> None:
    lab.layout.specification("jumper").write_text(f"project: walking\nwieghts: model:walker@{OLD[:4]}\n")


def train_from(lab: Lab) -> None:
    jumper = small_lab.as_if_trained(lab, "jumper", "cccc00001111")
    manifest = read_manifest(jumper.folder)
    assert manifest is not None
    manifest.inputs["weights"] = f"model:walker@{OLD}"
    manifest.write(jumper.folder)


def make_current(lab: Lab) -> None:
    lab.layout.current_version_file("walker").write_text(OLD + "\n")


@pytest.mark.parametrize(
    ("name_it", "said"),
    [
        (release, "release rule 1 of lab.yaml"),
        (freeze, "the frozen cohort spring"),
        (analyse, f"1 pose table made by it: {FIRST}"),
        (export, f"1 NWB file with its poses: {FIRST}"),
        (start_from, "the specification of jumper, which starts from its weights"),
        (start_from_in_a_broken_specification, "the specification of jumper, which starts from its weights"),
        (train_from, "jumper@cccc00001111, trained from its weights"),
        (make_current, "it is the current version of walker"),
    ],
)
def test_a_version_that_something_names_is_kept_and_it_is_said_by_what(
    lab: Lab, name_it: Callable[[Lab], None], said: str
) -> None:
    assert references_to(lab, old(lab)) == []
    name_it(lab)
    lab = open_lab_folder(lab.root)
    assert references_to(lab, old(lab))[0] == said
    before = files_of(lab.root)
    with pytest.raises(BusyError, match="is kept, as it is in use") as refused:
        remove_version(lab, old(lab), log=quiet)
    assert said in str(refused.value)
    assert files_of(lab.root) == before


@pytest.mark.parametrize(
    ("kind", "key", "said"),
    [
        ("train", "walker", "walker is being trained now"),
        ("pose_table", pose_key("walker", FIRST), f"analysing {FIRST}"),
    ],
)
def test_a_version_of_a_model_that_is_at_work_is_kept(lab: Lab, kind: str, key: str, said: str) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(lab.layout.lock(kind, key))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(BusyError, match=said):
        remove_version(lab, old(lab), log=quiet)
    holder.communicate()
    remove_version(lab, old(lab), log=quiet)


_HOLD = """
import sys
from pathlib import Path
from dlc_assets.lab.locks import hold
with hold(Path(sys.argv[1]), "working"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_cohort_that_names_the_version_keeps_it_though_its_poses_were_to_go_as_well(lab: Lab) -> None:
    analyse(lab)
    freeze(lab)
    with pytest.raises(BusyError, match="the frozen cohort spring"):
        remove_version(lab, old(lab), with_poses=True, log=quiet)


def test_status_says_what_uses_each_version_how_large_it_is_and_what_is_damaged(lab: Lab) -> None:
    release(lab)
    analyse(lab)
    lab.layout.version("walker", NEW).joinpath("pytorch_config.yaml").unlink()
    first, second = version_states(open_lab_folder(lab.root))
    assert first.uses.summary() == "release rule 1, 1 pose table"
    assert (first.uses.current, second.uses.current) == (False, True)
    assert first.bytes > 8000
    assert second.remarks == "current, damaged: pytorch_config.yaml is missing"
    assert damage_of(first.version) == ""
    assert "its hash differs" in damage_of(first.version, thorough=True)  # its name was made up, not worked out
    stated = json.loads(dlc_assets("status", "--json").stdout)["versions"]
    assert [(row["version"], row["uses"]["rules"], row["uses"]["pose_tables"]) for row in stated] == [
        (OLD, [1], [FIRST]),
        (NEW, [], []),
    ]
    assert "release rule 1, 1 pose table" in dlc_assets("status").stdout


# --- the trash ----------------------------------------------------------------------------------------


def test_a_version_that_nothing_names_goes_to_the_trash_as_it_was_and_that_is_recorded(lab: Lab) -> None:
    before = files_of(lab.layout.version("walker", OLD))
    entry = remove_version(lab, old(lab), log=quiet)
    assert [version.version for version in versions(lab.layout, "walker")] == [NEW]
    assert files_of(entry.folder / "models" / "walker" / OLD) == before
    (record,) = read_records(lab.layout, "deletions")
    assert (record["what"], record["name"], record["trash"]) == ("version", f"walker@{OLD}", entry.folder.name)
    assert record["paths"] == [f"models/walker/{OLD}"]
    assert [(one.name, one.bytes >= 8000) for one in trash_entries(lab.layout)] == [(f"walker@{OLD}", True)]
    with pytest.raises(NotFoundError, match=f"Versions of walker: {NEW}"):
        find_version(lab.layout, f"walker@{OLD}")


def test_its_poses_go_with_it_on_request_and_their_work_that_was_broken_off(lab: Lab) -> None:
    analyse(lab)
    unfinished = lab.layout.pose_work("walker", OLD, SECOND) / "top"
    unfinished.mkdir(parents=True)
    (unfinished / "settings.json").write_text("{}")
    with pytest.raises(BusyError, match="--with-poses"):
        remove_version(lab, old(lab), log=quiet)
    entry = remove_version(lab, old(lab), with_poses=True, log=quiet)
    assert list(lab.layout.poses.glob("model=walker/version=*")) == []
    assert not unfinished.exists()
    assert (entry.folder / f"poses/model=walker/version={OLD}/session={FIRST}/top.parquet").is_file()


def test_the_trash_is_emptied_for_good_and_that_is_recorded(lab: Lab) -> None:
    entry = remove_version(lab, old(lab), log=quiet)
    (gone,) = empty_trash(lab.layout, log=quiet)
    assert gone.folder == entry.folder
    assert not entry.folder.exists()
    assert read_records(lab.layout, "deletions")[-1]["trash"] == [entry.folder.name]
    assert empty_trash(lab.layout, log=quiet) == []
    assert len(read_records(lab.layout, "deletions")) == 2


_DIE = """
import os, sys
from pathlib import Path
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.training.models import ModelVersion
from dlc_assets.training.removal import remove_version
lab = open_lab_folder(sys.argv[1])
version = ModelVersion("walker", sys.argv[2], lab.layout.version("walker", sys.argv[2]))
rename, left = Path.rename, int(sys.argv[3])
def dying(self, to):
    global left
    if "trash" in str(to):
        if not left:
            os._exit(9)
        left -= 1
    return rename(self, to)
Path.rename = dying
if len(sys.argv) > 4:
    import dlc_assets.lab.trash as trash
    trash.append_record = lambda *_: os._exit(9)
remove_version(lab, version, with_poses=True, log=print)
"""


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_killed_in_the_middle_all_is_as_before_once_the_next_one_comes(lab: Lab, moves: int) -> None:
    analyse(lab)
    before = files_of(lab.layout.models) | files_of(lab.layout.poses)
    arguments = [str(lab.root), OLD, str(moves), *(["unrecorded"] if moves == 2 else [])]
    died = subprocess.run([sys.executable, "-c", _DIE, *arguments], check=False, env=environment_without_lab())
    assert died.returncode == 9
    left = len(list(lab.layout.models.glob(f"walker/{OLD}"))), len(list(lab.layout.poses.glob("model=walker/*")))
    assert left == [(1, 1), (1, 0), (0, 0)][moves]
    said: list[str] = []
    assert empty_trash(lab.layout, log=said.append) == []
    assert files_of(lab.layout.models) | files_of(lab.layout.poses) == before
    assert any(f"the removal of walker@{OLD} was broken off" in line for line in said)
    assert list(lab.layout.trash.iterdir()) == []


def test_what_comes_to_use_it_in_the_middle_gets_it_back(lab: Lab) -> None:
    before = files_of(lab.layout.models)
    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise BusyError("a run has just been started with it")

    with pytest.raises(BusyError, match="just been started"):
        remove_version(lab, old(lab), check=check, log=quiet)
    assert files_of(lab.layout.models) == before
    assert read_records(lab.layout, "deletions") == []


def test_what_was_made_anew_meanwhile_is_not_overwritten(lab: Lab) -> None:
    place = lab.layout.version("walker", OLD)

    def check() -> None:
        if not place.exists():
            place.mkdir()
            (place / "snapshot.pt").write_text("trained again")
            raise BusyError("it is there again")

    with pytest.raises(BusyError):
        remove_version(lab, old(lab), check=check, log=quiet)
    assert (place / "snapshot.pt").read_text() == "trained again"
    (entry,) = trash_entries(lab.layout)
    assert (entry.folder / f"models/walker/{OLD}/manifest.json").is_file()
    assert len(empty_trash(lab.layout, log=quiet)) == 1  # not taken for a removal that was broken off


def test_a_store_spread_over_disks_is_said_and_nothing_is_half_removed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(lab.layout.models)
    rename = Path.rename

    def far(self: Path, to: Path) -> Path:
        if "trash" in str(to):
            raise OSError(18, "Invalid cross-device link")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", far)
    with pytest.raises(EnvironmentProblem, match="another disk"):
        remove_version(lab, old(lab), log=quiet)
    assert files_of(lab.layout.models) == before
    assert list(lab.layout.trash.iterdir()) == []


def test_a_folder_that_somebody_put_into_the_trash_is_left_until_it_is_emptied(lab: Lab) -> None:
    (lab.layout.trash / "by hand").mkdir(parents=True)
    (lab.layout.trash / "by hand" / "notes.txt").write_text("old")
    remove_version(lab, old(lab), log=quiet)
    assert [entry.folder.name for entry in trash_entries(lab.layout)][-1] == "by hand"
    assert len(empty_trash(lab.layout, log=quiet)) == 2


# --- sessions and models ------------------------------------------------------------------------------


def test_a_session_goes_with_all_that_was_made_of_it_once_its_videos_are_gone(lab: Lab) -> None:
    analyse(lab)
    export(lab)
    (lab.layout.nwb / "first.nwb").write_text("nwb")
    (lab.layout.nwb / "first").mkdir()
    (lab.layout.nwb / "first" / "video.mp4").write_text("copy")
    with pytest.raises(BusyError, match=r"its video .*top.mp4 is there"):
        remove_session(lab, FIRST, log=quiet)
    shutil.rmtree((lab.root / small_lab.video_of(FIRST)).parent)
    entry = remove_session(lab, FIRST, log=quiet)
    left = [path for path in files_of(lab.layout.store) if FIRST in path or path.startswith("nwb/")]
    assert all(path.startswith(("trash/", "records/")) for path in left)
    assert set(entry.paths) == {
        f"nwb/.manifests/{FIRST}.json",
        "nwb/first.nwb",
        "nwb/first",
        f"poses/model=walker/version={OLD}/session={FIRST}",
        f"recordings/session={FIRST}",
    }


def test_a_session_of_a_cohort_or_of_a_disk_that_is_not_there_is_kept(lab: Lab) -> None:
    small_lab.record(lab, FIRST)
    freeze(lab)
    away = lab.root / "recordings"
    away.rename(lab.root / "elsewhere")
    with pytest.raises(BusyError, match="which is not there now"):
        remove_session(lab, FIRST, log=quiet)
    away.mkdir()
    with pytest.raises(BusyError, match='the frozen cohort "spring" has it'):
        remove_session(lab, FIRST, log=quiet)


def test_a_model_goes_once_its_specification_is_gone_and_nothing_names_it(lab: Lab) -> None:
    analyse(lab)
    with pytest.raises(BusyError, match=r"its specification .* is there"):
        remove_model(lab, "walker", log=quiet)
    lab.layout.specification("walker").unlink()
    with pytest.raises(BusyError, match=r"release rule 1 of lab.yaml names walker"):
        remove_model(lab, "walker", with_poses=True, log=quiet)
    text = lab.layout.settings_file.read_text()
    lab.layout.settings_file.write_text(text.replace("release: [{devices: [top], model: walker}]\n", ""))
    lab = open_lab_folder(lab.root)
    with pytest.raises(BusyError, match="1 pose table made by it"):
        remove_model(lab, "walker", log=quiet)
    entry = remove_model(lab, "walker", with_poses=True, log=quiet)
    assert set(entry.paths) == {"models/walker", "poses/model=walker"}
    assert (entry.folder / "models/walker/current").read_text() == NEW + "\n"


# --- the command --------------------------------------------------------------------------------------


def test_the_command_says_what_would_go_and_asks_before_it_does_it(lab: Lab) -> None:
    name = f"walker@{OLD[:4]}"
    before = files_of(lab.layout.models)
    looked = dlc_assets("forget", name, "--dry-run")
    assert looked.exit_code == 0
    assert f"store/models/walker/{OLD}" in looked.stdout
    unasked = dlc_assets("forget", name)
    assert unasked.exit_code == 2
    assert "give --yes" in unasked.stderr
    assert files_of(lab.layout.models) == before
    done = json.loads(dlc_assets("forget", name, "--yes", "--json").stdout)
    assert done["ok"] is True
    assert done["paths"] == [f"models/walker/{OLD}"]
    listed = dlc_assets("forget", "--empty-trash", "--dry-run")
    assert done["trash"].rpartition("/")[2] in listed.stdout.replace("\n", "")
    assert Path(done["trash"]).is_dir()
    emptied = json.loads(dlc_assets("forget", "--empty-trash", "--yes", "--json").stdout)
    assert emptied["deleted"] == [done["trash"]]
    assert not Path(done["trash"]).exists()


@pytest.mark.parametrize("arguments", [(), ("walker@bbbb", "--empty-trash")])
def test_the_command_takes_a_name_or_empties_the_trash(lab: Lab, arguments: tuple[str, ...]) -> None:
    result = dlc_assets("forget", *arguments)
    assert (result.exit_code, "expected either" in result.stderr) == (2, True)


def test_what_is_in_use_is_refused_with_exit_status_1(lab: Lab) -> None:
    result = dlc_assets("forget", f"walker@{NEW}", "--yes", "--json")
    assert result.exit_code == 1
    assert "it is the current version of walker; release rule 1 of lab.yaml" in json.loads(result.stdout)["error"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("walker@9", f"Versions of walker: {OLD}, {NEW}"),
        ("walker@", "expected the digits of a version"),
        ("wlaker", 'no session and no model "wlaker". Did you mean "walker"?'),
        (f"{FIRST}9", f'Did you mean "{FIRST}"?'),
    ],
)
def test_a_name_that_means_nothing_is_said_with_what_is_near(lab: Lab, name: str, said: str) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        add_keys(instance, SESSION, [FIRST])
        with pytest.raises(NotFoundError) as wrong:
            what_is_meant(lab, instance, name)
    assert said in str(wrong.value)


def test_keys_of_gone_sessions_and_models_leave_the_instance_unless_a_run_has_them(lab: Lab) -> None:
    lab.layout.specification("walker").unlink()
    lab.layout.settings_file.write_text(lab.layout.settings_file.read_text().replace("model: walker}", "model: other}"))
    small_lab.record(lab, FIRST)
    shutil.rmtree((lab.root / small_lab.video_of(FIRST)).parent)
    lab = open_lab_folder(lab.root)
    with dg.DagsterInstance.ephemeral() as instance:
        add_keys(instance, SESSION, [FIRST, SECOND])
        add_keys(instance, MODEL, ["walker", "day2-walker"])
        run = dg.DagsterRun("analyze", tags={"dagster/partition": f"walker|{FIRST}"})
        instance.add_run(run)
        for name in (FIRST, "walker"):
            meant = what_is_meant(lab, instance, name)
            with pytest.raises(BusyError, match=rf"run {run.run_id} \(analyze, not_started\) has it"):
                forget(lab, instance, meant, with_poses=False, log=quiet)
        assert len(instance.get_dynamic_partitions(SESSION)) == 2
        instance.delete_run(run.run_id)
        for name in (FIRST, "walker"):
            forget(lab, instance, what_is_meant(lab, instance, name), with_poses=False, log=quiet)
        assert list(instance.get_dynamic_partitions(SESSION)) == [SECOND]
        assert list(instance.get_dynamic_partitions(MODEL)) == ["day2-walker"]
        with pytest.raises(NotFoundError):
            what_is_meant(lab, instance, FIRST)


def test_a_version_that_a_run_asks_for_is_kept(lab: Lab) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        add_keys(instance, SESSION, [FIRST])
        config = {"ops": {"pose_table": {"config": {"version": OLD[:6]}}}}
        instance.add_run(dg.DagsterRun("analyze", tags={"dagster/partition": f"walker|{FIRST}"}, run_config=config))
        with pytest.raises(BusyError, match=r"\(analyze, not_started\) has it"):
            refuse_to_forget(lab, instance, what_is_meant(lab, instance, f"walker@{OLD}"), with_poses=False)
