"""The notebook's face: a lab's sessions, models, recordings, evaluations and poses in one call each."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dlc_assets.catalog.schema import COMPARISON
from dlc_assets.derived.filtered_poses import (
    filtered_cohort_files,
    filtered_manifests,
    filtered_pose_files,
    is_filtered_as_stated,
)
from dlc_assets.derived.kinematics_reading import (
    Found,
    behind_lab,
    cohort_kinematics,
    find_kinematics,
    kinematics_files,
    read_kinematics,
    refuse_mixtures,
)
from dlc_assets.derived.session_labels import with_labels
from dlc_assets.inference.frozen_poses import cohort_files
from dlc_assets.inference.pose_comparison import compare_poses, versions_to_compare
from dlc_assets.inference.pose_tables import latest_pose_manifest, pose_files
from dlc_assets.inference.releases import releases_of
from dlc_assets.lab.cohorts import find_cohort
from dlc_assets.lab.errors import DlcAssetsError, NotFoundError, did_you_mean
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.nwb.export import export_session, nwb_files, nwb_manifest
from dlc_assets.nwb.overrides import as_stated
from dlc_assets.poses.differences import MOVED_PX
from dlc_assets.poses.selection import PoseFile, PoseSelection
from dlc_assets.recordings.info import need_session_info
from dlc_assets.state.behind import analysed_by, recorded_sessions
from dlc_assets.training.comparison import chosen_versions, compare_versions
from dlc_assets.training.evaluation import read_summary
from dlc_assets.training.models import current_version, evaluation_manifest, find_version, trained_models, versions

if TYPE_CHECKING:
    import pandas as pd

Names = str | Sequence[str] | None
_LISTED = 10


def open_lab(path: str | os.PathLike[str] | None = None) -> OpenLab:
    """Open the lab at *path*, else at `$DLC_ASSETS_LAB`, else at ./lab, for reading.

    Raises
    ------
    SettingsError
        The folder is no lab, or its lab.yaml is wrong.
    """
    return OpenLab(open_lab_folder(path))


def session_to_nwb(
    session: str,
    *,
    lab: str | os.PathLike[str] | None = None,
    model: Names = None,
    cohort: str | None = None,
    videos: Literal["link", "copy", "relative", "leave_out"] | None = None,
    session_overrides: Mapping[str, Any] | None = None,
    recompute: bool = False,
) -> list[Path]:
    """Write the NWB file of *session* and return where it lies: one file, or one a subject where its animals were told apart.

    A file that is up to date is not written again.

    Parameters
    ----------
    session
        Its key, such as ``sub-m01_ses-20260501``.
    lab
        As in `open_lab`.
    model
        ``name`` or ``name@version``, or several: their poses, in the place of the released ones.
    cohort
        A frozen cohort: exactly the poses that it was frozen with, in a file beside the cohort's others.
    videos
        In the place of lab.yaml's ``nwb.videos``.
    session_overrides
        What is to be stated of the session in the place of what the lab's files say: ``session_id``, ``start``, ``description``,
        ``experimenters``, ``institution``, ``lab``, ``keywords``, ``experiment_description``, and ``subject``, a mapping of
        ``subject_id``, ``species``, ``sex``, ``age``, ``date_of_birth``, ``description``, ``strain``, ``genotype``, ``weight``.

    Raises
    ------
    SettingsError, InputError, NotFoundError
        Something that is stated is wrong or missing, or there are no such poses; the message says where to mend it. A file that was
        there stays as it was.
    """
    opened = open_lab(lab)
    stated = {
        "videos": videos,
        "models": _names(model) or None,
        "session": as_stated(session_overrides) if session_overrides else None,
    }
    manifest, _ = export_session(
        opened.lab,
        opened._known_session(session),
        overrides={name: value for name, value in stated.items() if value is not None},
        recompute=recompute,
        run_id="",
        log=lambda _: None,
        cohort=None if cohort is None else find_cohort(opened.lab.layout, cohort),
    )
    return nwb_files(opened.lab, manifest)


class OpenLab:
    """A lab, read as it is now. Nothing here writes."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def __repr__(self) -> str:
        return f"<lab {self.lab.settings.name!r} at {self.lab.root}: {len(recorded_sessions(self.lab))} sessions>"

    def sessions(self) -> pd.DataFrame:
        """Return one row a session: subject, start, day, description, tags (the catalog's `sessions`)."""
        return self._table("sessions")

    def models(self) -> pd.DataFrame:
        """Return one row a version of a model (the catalog's `models`)."""
        return self._table("models")

    def cohorts(self) -> pd.DataFrame:
        """Return one row a session and model of each frozen cohort (the catalog's `cohorts`)."""
        return self._table("cohorts")

    def findings(self) -> pd.DataFrame:
        """Return what each check says of each pose table that has a quality report, one row a check (the catalog's `findings`)."""
        return self._table("findings")

    def recordings(self, session: str | None = None) -> pd.DataFrame:
        """Return one row a recording, of one session or of all (the catalog's `recordings`)."""
        recordings = self._table("recordings")
        if session is None:
            return recordings
        need_session_info(self.lab.layout, self._known_session(session))
        return recordings[recordings["session"] == session].reset_index(drop=True)

    def evaluation(self, model: str) -> pd.DataFrame:
        """Return the errors (px) of *model* (``name`` or ``name@version``) by set and body part.

        ``rmse`` is DeepLabCut's: the mean Euclidean distance; ``rmse_pcutoff`` counts only estimates that reach the p-cutoff. All
        columns are described in `training.scores.SUMMARY_COLUMNS`.
        """
        version = find_version(self.lab.layout, model)
        if evaluation_manifest(version, self.lab.layout) is None:
            raise NotFoundError(f"{version} is not evaluated yet: materialize model_evaluation for {version.model}.")
        return read_summary(self.lab, version)

    def comparison(self, models: Names = None) -> pd.DataFrame:
        """Return one row a model version, ranked where that is fair: on benchmark frames that none of those ranked together has seen.

        Columns are those of the catalog's `model_comparison`; rows with the same ``comparable`` are ranked against each other. Labels are
        read as they are now. No network is run: frames of which it is not known what one says are left out (``note`` says so), until
        `dlc-assets compare-models` or `model_evaluation` has run it.

        Parameters
        ----------
        models
            ``name`` or ``name@version``; None takes every version of every model, one name alone all its versions. Several are
            ranked all against all or not at all.
        """
        import pandas as pd

        stated = _names(models)
        compared = compare_versions(self.lab, chosen_versions(self.lab, stated), together=len(stated) > 1)
        return pd.DataFrame(compared.rows, columns=[column.name for column in COMPARISON.columns])

    def poses(
        self,
        session: Names = None,
        model: Names = None,
        bodyparts: Names = None,
        recording: Names = None,
        individuals: Names = None,
        cohort: str | None = None,
        allow_mixed_versions: bool = False,
        filtered: bool = False,
        canonical: bool = False,
    ) -> PoseSelection:
        """Return a lazy selection of poses: nothing is read before `.to_pandas()`, `.to_xarray()`, `.to_dlc()` or `.to_arrow()`.

        Parameters
        ----------
        session
            Session keys; None takes every session.
        model
            ``name`` or ``name@version``. A name without version takes the released version of each session, else the current one.
            None takes the models that the release rules name for each session, or the only model there is.
        bodyparts, recording, individuals
            Names; None takes all. A body part is found by the lab's name or by any synonym that lab.yaml gives it (``body_parts``),
            whatever the model calls it, and has the name that it was asked for by.
        cohort
            A frozen cohort: exactly the poses that it was frozen with, whatever is released now; *session* and *model* choose among
            them. Versions may mix, as they did then.
        allow_mixed_versions
            Whether a model may come in several versions, as it does across the day of a release: their errors differ.
        filtered
            The poses after the lab's filters (``filtered_pose_table``), in the place of those that the network gave. Of a cohort: by the
            filters that it was frozen with, whatever lab.yaml states now; they are computed when read where the store has them no more.
        canonical
            Whether body parts are called by the lab's names, in the place of the models' own or of those they were asked for by.

        Raises
        ------
        DlcAssetsError
            A model comes in several versions, or filtered poses were filtered in different ways.
        NotFoundError
            There is no such session, model, cohort; nothing was analysed; poses of the cohort are not there any more; or poses
            were not filtered since they were made.
        """
        if cohort is not None:
            frozen = find_cohort(self.lab.layout, cohort)
            of_cohort = cohort_files(self.lab, frozen, _names(session), _names(model), _names(recording))
            return PoseSelection(
                filtered_cohort_files(self.lab, frozen, of_cohort) if filtered else of_cohort,
                bodyparts=_names(bodyparts) or None,
                individuals=_names(individuals) or None,
                allow_mixed_versions=True,
                names=self.lab.settings.body_part_names,
                canonical=canonical,
            )
        self._check_models(_names(model))
        sessions = [self._known_session(key) for key in _names(session)] or recorded_sessions(self.lab)
        wanted = set(_names(recording))
        found = {key: self._manifests(key, _names(model)) for key in sessions}
        manifests = [manifest for of_session in found.values() for manifest in of_session]
        files = [
            file
            for manifest in manifests
            for file in pose_files(self.lab, manifest)
            if not wanted or file.recording in wanted
        ]
        if filtered and files:
            files = self._filtered({(file.session, file.model) for file in files}, manifests, wanted)
        if not files:
            asked = {"session": session, "model": model, "recording": recording}
            stated = ", ".join(f"{name}={value!r}" for name, value in asked.items() if value is not None) or "this lab"
            raise NotFoundError(
                f"there are no poses for {stated}. `dlc-assets status` says what is there; `dlc-assets analyze` makes them."
            )
        names = {reference.partition("@")[0] for reference in _names(model)}
        without = [
            key
            for key, made in found.items()
            if not made and (session is not None or (there := set(analysed_by(self.lab, key))) & (names or there))
        ]
        if without:
            listed = ", ".join(without[:10]) + (", ..." if len(without) > 10 else "")
            warnings.warn(
                f"{len(without)} of {len(sessions)} sessions are not in this selection, as they have no poses by the version that "
                f"is meant: {listed}. `dlc-assets status` says why; model='name@version' takes an older version.",
                stacklevel=2,
            )
        return PoseSelection(
            files,
            bodyparts=_names(bodyparts) or None,
            individuals=_names(individuals) or None,
            allow_mixed_versions=allow_mixed_versions,
            names=self.lab.settings.body_part_names,
            canonical=canonical,
        )

    def kinematics(
        self,
        sessions: Names = None,
        model: Names = None,
        columns: Names = None,
        recording: Names = None,
        individuals: Names = None,
        cohort: str | None = None,
        where: str | None = None,
        allow_mixed_versions: bool = False,
    ) -> pd.DataFrame:
        """Return what was measured of the poses of many sessions: one row a frame and individual.

        Columns are session, subject, day, sex, strain, genotype, the lab's tags as ``tag_<name>`` (a session's in the place of its
        subject's), model, recording, frame, time, individual, then the measures; ``version`` where a model has several. Names are
        categorical, what is unknown is NaN (missing in columns of yes and no).

        Parameters
        ----------
        sessions
            Session keys; None takes every session.
        model, recording, individuals, allow_mixed_versions
            As of `poses`.
        columns
            Measures, such as ``snout_speed_cm_s``; only these are read. None takes all.
        cohort
            A frozen cohort: kinematics count only if they were made from the very poses that it was frozen with.
        where
            A condition in SQL on the measures, such as ``snout_distance_to_center_px < 50``: other rows are not read.

        Raises
        ------
        DlcAssetsError
            A model comes in several versions, or kinematics were made in different ways.
        NotFoundError
            There is no such session, model, cohort, recording, individual or measure; nothing was measured; or the cohort's are not there.

        Warns
        -----
        UserWarning
            With their names: sessions that are left out, that lack a measure, or whose kinematics are behind the lab's files.
        """
        wanted, chosen = set(_names(recording)), _names(sessions)
        if cohort is not None:
            frozen = find_cohort(self.lab.layout, cohort)
            of_cohort = cohort_files(self.lab, frozen, chosen, _names(model), _names(recording))
            manifests = cohort_kinematics(self.lab, frozen, of_cohort)
            meant = {(file.session, file.model, file.recording) for file in of_cohort}
        else:
            manifests, meant = self._measured(chosen, _names(model)), None
        refuse_mixtures(manifests)
        files = [
            file
            for manifest in manifests
            for file in kinematics_files(self.lab, manifest)
            if (not wanted or file.recording in wanted)
            and (meant is None or (file.session, file.model, file.recording) in meant)
        ]
        if not files:
            raise NotFoundError(f"there are no kinematics of the recordings {', '.join(sorted(wanted))}.")
        selection = PoseSelection(files, allow_mixed_versions=allow_mixed_versions or cohort is not None)
        read = read_kinematics(
            selection.files,
            columns=None if columns is None else _names(columns),
            individuals=_names(individuals) or None,
            where=where,
        )
        for name, without in read.lacking.items() if columns is not None else ():
            _warn(f"{name} is not measured in {_some(without)}: it is NaN there.")
        return with_labels(self.lab, read.table)

    def _measured(self, sessions: list[str], models: list[str]) -> list[Manifest]:
        """Return the kinematics of *sessions* (empty: all) by *models*; a warning names those that are left out or behind."""
        self._check_models(models)
        keys = [self._known_session(key) for key in sessions] or recorded_sessions(self.lab)
        of_session = {key: self._manifests(key, models) for key in keys}
        poses = [manifest for of in of_session.values() for manifest in of]
        found: Found = find_kinematics(self.lab, poses)
        absent = [f"{key} (no poses by the version that is meant)" for key, of in of_session.items() if not of]
        absent += [f"{named} ({why})" for named, why in found.absent.items()]
        if not found.manifests:
            raise NotFoundError(
                f"there are no kinematics of {_some(keys) or 'this lab'}: {_some(absent) or 'it has no sessions'}. `dlc-assets review` "
                "makes them of what was analysed."
            )
        if absent:
            _warn(
                f"{len(absent)} of {len(keys)} sessions are not in this table: {_some(absent)}. `dlc-assets review` makes what is missing."
            )
        if behind := behind_lab(self.lab, found.manifests, poses):
            _warn(
                f"the kinematics of {_some(behind)} were made with other settings, filters, scales or regions than the lab's files state "
                "now; `dlc-assets review` makes them again."
            )
        return found.manifests

    def compare_poses(self, old: str, new: str, sessions: Names = None, *, moved_px: float = MOVED_PX) -> pd.DataFrame:
        """Return how much the poses of sessions change from one model version to another, the largest change first.

        Parameters
        ----------
        old, new
            ``name`` (its current version) or ``name@version``.
        sessions
            Session keys; None takes all that both analysed.
        moved_px
            Distance in px beyond which a position has moved.

        Returns
        -------
        pandas.DataFrame
            See `inference.pose_comparison.PoseComparison.table`. A warning names what was not compared.
        """
        one, other = versions_to_compare(self.lab, old, new)
        found = compare_poses(self.lab, one, other, _names(sessions) or None, moved_px=moved_px)
        alone = [(version, keys) for version, keys in ((one, found.only_old), (other, found.only_new)) if keys]
        left_out = [
            f"only {version} has analysed {', '.join(keys[:10])}{', ...' * (len(keys) > 10)}" for version, keys in alone
        ]
        if left_out or found.notes:
            warnings.warn("; ".join([*left_out, *found.notes]), stacklevel=2)
        return found.table()

    def nwb_files(self, session: str, cohort: str | None = None) -> list[Path]:
        """Return the NWB files of *session* (of a frozen *cohort*): one, or one a subject where its animals were told apart.

        Raises
        ------
        NotFoundError
            There is no such session or cohort, or it is not exported.
        """
        frozen = None if cohort is None else find_cohort(self.lab.layout, cohort)
        manifest = nwb_manifest(self.lab, self._known_session(session), frozen)
        if manifest is None:
            raise NotFoundError(f"{session} has no NWB file: run `dlc-assets export {session}`.")
        return nwb_files(self.lab, manifest)

    def _filtered(self, tasks: set[tuple[str, str]], poses: Sequence[Manifest], recordings: set[str]) -> list[PoseFile]:
        """Return the filtered tables' files of those *poses* that are of *tasks* (session, model)."""
        chosen = [of for of in poses if (of.details["session"], of.details["model"]) in tasks]
        manifests = filtered_manifests(self.lab, chosen)
        if not is_filtered_as_stated(self.lab, manifests):
            warnings.warn(
                "these poses were filtered with other steps than lab.yaml states now; `dlc-assets review` filters them again.",
                stacklevel=3,
            )
        files = [file for manifest in manifests for file in filtered_pose_files(self.lab, manifest)]
        return [file for file in files if not recordings or file.recording in recordings]

    def _manifests(self, session: str, models: list[str]) -> list[Manifest]:
        info, _ = need_session_info(self.lab.layout, session)
        releases = releases_of(self.lab, info)
        made_by = analysed_by(self.lab, session)
        found = []
        for reference in models or list(releases.versions) or made_by:
            name, _, pinned = reference.partition("@")
            if name not in made_by:
                continue
            version = (
                find_version(self.lab.layout, reference)
                if pinned
                else releases.versions.get(name) or current_version(self.lab.layout, name)
            )
            manifest = (
                latest_pose_manifest(self.lab, name, session)
                if version is None
                else read_manifest(self.lab.layout.pose_folder(name, version.version, session))
            )
            if manifest is not None:
                found.append(manifest)
        return found

    def _check_models(self, models: list[str]) -> None:
        known = sorted({*self.lab.model_names(), *trained_models(self.lab.layout)})
        for reference in models:
            name = reference.partition("@")[0]
            if name not in known and not versions(self.lab.layout, name):
                listed = ", ".join(known) or "none"
                raise NotFoundError(f'there is no model "{name}".{did_you_mean(name, known)} Models: {listed}.')

    def _known_session(self, key: str) -> str:
        known = recorded_sessions(self.lab)
        if key not in known:
            raise NotFoundError(
                f'there is no session "{key}".{did_you_mean(key, known)} Sessions: {", ".join(known[:20]) or "none"}'
                f"{', ...' if len(known) > 20 else ''}."
            )
        return key

    def _table(self, name: str) -> pd.DataFrame:
        from dlc_assets.catalog.tables import catalog_tables

        return catalog_tables(self.lab, names=[name])[name].to_pandas()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=_stacklevel())


def _stacklevel() -> int:
    """Return how far up the first line is that is not this module's."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        level, frame = level + 1, frame.f_back
    return level


def _names(stated: Names) -> list[str]:
    return [] if stated is None else [stated] if isinstance(stated, str) else list(stated)


__all__ = ["DlcAssetsError", "OpenLab", "open_lab", "session_to_nwb"]
