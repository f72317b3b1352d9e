"""Puts the poses of a session, their cameras and their videos into an NWB file in memory, a new one or one that has other data already."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dlc_assets.lab.errors import InputError
from dlc_assets.nwb import streams
from dlc_assets.nwb.description import DeviceDescription, RecordingPoses, TrackLike
from dlc_assets.nwb.frame_times import Timing
from dlc_assets.nwb.input_checks import CheckedRecording
from dlc_assets.nwb.names import UNIQUE, object_name, pose_estimation_names
from dlc_assets.nwb.video_files import external_file, video_object_id

if TYPE_CHECKING:
    import pynwb

# Where the file says that its videos are: placed beside it as links or copies, where they lie in the lab, or nowhere.
Videos = Literal["link", "copy", "relative", "leave_out"]

MODULE = "behavior"
REFERENCE_FRAME = (
    "(0, 0) is the center of the top left pixel of the full, upright video frame; x points right, y points down."
)
NEVER_DETECTED = "It was not detected in any frame of this recording."
NOTHING_LEFT = "The filters left no position of it in any frame of this recording."


@dataclass
class Added:
    """What was put into a file.

    `names` are the containers of the poses by (place among the recordings, individual); `videos` are the files that belong beside the NWB
    file, by their path relative to it.
    """

    names: Mapping[tuple[int, str], str]
    videos: dict[PurePosixPath, Path] = field(default_factory=dict)


def add_poses(
    nwbfile: pynwb.NWBFile, path: Path, checked: Sequence[CheckedRecording], *, videos: Videos, identifier: str
) -> Added:
    """Add everything of *checked* to *nwbfile*, which is to lie at *path*.

    Devices, videos and skeletons that the file has already are used, not added again. *identifier* is the session's: object ids of
    videos, and so the names of their files, follow from it.

    Raises
    ------
    InputError
        The file has poses, or another object, under a name that is needed.
    """
    behavior = nwbfile.processing.get(MODULE) or nwbfile.create_processing_module(
        MODULE, "Poses of the subject, estimated from video."
    )
    skeletons = _skeletons(behavior, path)
    added = Added(_free_names(nwbfile, path, [one.poses for one in checked]))
    videos_of: dict[str, list[Any]] = {}
    clocks: dict[str, Any] = {}  # the series whose time stamps the others of a recording share
    for place, one in enumerate(checked):
        recording = one.poses
        device = _device(nwbfile, recording.device, path)
        if recording.recording not in videos_of:
            series = _videos(nwbfile, path, one, device, videos, identifier, added)
            videos_of[recording.recording] = series
            if len(series) == 1 and series[0].container_source is None and one.timing.whole.rate is None:
                clocks[recording.recording] = series[0]
        own = videos_of[recording.recording]
        labeled_video = _labeled_video(behavior, path, one, device, videos, identifier, added)
        for individual in recording.individuals:
            skeleton = _skeleton(skeletons, one, individual, nwbfile.subject)
            poses = _pose_estimation(
                added.names[place, individual],
                one,
                individual,
                skeleton,
                device,
                own[0] if len(own) == 1 else None,
                labeled_video,
                clocks,
            )
            behavior.add(poses)
            if recording.labeled_frames and individual == "":
                name = added.names[place, individual].replace("PoseEstimation", "PoseTraining", 1)
                behavior.add(_pose_training(name, one, skeleton, own))
    return added


def _free_names(nwbfile: pynwb.NWBFile, path: Path, recordings: Sequence[RecordingPoses]) -> dict[tuple[int, str], str]:
    """Return names of the poses that *nwbfile* does not use yet; where it has a ``PoseEstimation``, ours name their recording."""
    taken = set(nwbfile.processing[MODULE].data_interfaces) if MODULE in nwbfile.processing else set()
    names = pose_estimation_names(recordings)
    if taken & set(names.values()):
        names = pose_estimation_names(recordings, always_with_recording=True)
    if used := sorted(taken & set(names.values())):
        raise InputError(
            f"{path}: the NWB file that is to be extended has {', '.join(used)} in processing/{MODULE} already. Name another file "
            "under nwb.extend in session.yaml, one without these poses."
        )
    return names


def _device(nwbfile: pynwb.NWBFile, described: DeviceDescription, path: Path) -> Any:
    name = object_name(described.name)
    if name in nwbfile.devices and nwbfile.devices[name].container_source is not None:
        return nwbfile.devices[name]  # of the file that is extended
    model = _device_model(nwbfile, described) if described.manufacturer else None
    description = described.description or f"Camera {described.name}."
    if described.model and model is None:
        description += f" Model: {described.model}."
    if name not in nwbfile.devices:
        return nwbfile.create_device(name=name, description=description, model=model)
    device = nwbfile.devices[name]
    if (device.description, device.model) != (description, model):
        raise InputError(
            f'two recordings describe device "{described.name}" differently; describe it once in lab.yaml.'
        )
    return device


def _device_model(nwbfile: pynwb.NWBFile, described: DeviceDescription) -> Any:
    title = f"{described.manufacturer} {described.model or 'camera'}"
    name = object_name(title)
    if name in nwbfile.device_models:
        return nwbfile.device_models[name]
    return nwbfile.create_device_model(
        name=name,
        manufacturer=described.manufacturer,
        model_number=described.model or None,
        description=f"Camera, {title}.",
    )


def _videos(
    nwbfile: pynwb.NWBFile, path: Path, one: CheckedRecording, device: Any, how: Videos, identifier: str, added: Added
) -> list[Any]:
    """Return one ImageSeries a file: several files in one could not express a gap between them."""
    if how == "leave_out":
        return []
    from pynwb.image import ImageSeries

    recording = one.poses
    several = len(recording.video_files) > 1
    found = []
    for part, (video, timing) in enumerate(zip(recording.video_files, one.timing.parts, strict=True), start=1):
        present = _present_video(nwbfile, video)
        if present is not None:
            found.append(present)
            continue
        object_id = video_object_id(identifier, recording.recording, part)
        name = f"Video_{object_name(recording.recording)}" + (f"_part{part}" if several else "")
        if name in nwbfile.acquisition:
            raise InputError(
                f'{path}: the file has something else called "{name}" among its acquisitions; rename the recording.'
            )
        times = _time_arguments(one, timing)
        if "rate" in times:  # an empty external series cannot tell its length
            times["num_samples"] = timing.last - timing.first
        # Made in two steps because only __new__ takes an object id; it names the video's file.
        series = ImageSeries.__new__(ImageSeries, object_id=object_id)
        series.__init__(
            name=name,
            description=f'Video recording "{recording.recording}", file {video.name}.',
            format="external",
            external_file=[_external_file(path, object_id, video, how, added)],
            starting_frame=[0],
            dimension=[recording.width, recording.height],
            device=device,
            **times,
        )
        nwbfile.add_acquisition(series)
        found.append(series)
    return found


def _external_file(path: Path, object_id: str, video: Path, how: Videos, added: Added) -> str:
    if how == "relative":
        try:
            return Path(os.path.relpath(video, path.parent)).as_posix()
        except ValueError:  # Windows: another drive
            raise InputError(
                f"{video} and {path} lie on different drives, so that no relative path leads from one to the other. Set nwb.videos in "
                "lab.yaml to link or copy."
            ) from None
    relative = external_file(path, object_id, video)
    added.videos[relative] = video
    return relative.as_posix()


def _labeled_video(
    behavior: Any, path: Path, one: CheckedRecording, device: Any, how: Videos, identifier: str, added: Added
) -> Any:
    """Return the ImageSeries of the video that the poses are drawn onto, one for all individuals; None where there is none."""
    from pynwb.image import ImageSeries

    recording = one.poses
    labeled = recording.labeled_video
    if labeled is None or how == "leave_out":
        return None
    name = object_name(f"LabeledVideo_{recording.recording}")
    if name in behavior.data_interfaces:  # by another model
        name = object_name(f"LabeledVideo_{recording.recording}_{recording.model}")
    object_id = video_object_id(identifier, f"{recording.recording}/labeled/{recording.model}", 1)
    times = _time_arguments(one, replace(one.timing.whole, first=labeled.first_frame, last=labeled.end_frame))
    if "rate" in times:
        times["starting_time"] += labeled.first_frame / times["rate"]
        times["num_samples"] = labeled.end_frame - labeled.first_frame
    series = ImageSeries.__new__(ImageSeries, object_id=object_id)
    series.__init__(
        name=name,
        description=f'Poses drawn onto frames {labeled.first_frame} to {labeled.end_frame - 1} of recording "{recording.recording}".',
        format="external",
        external_file=[_external_file(path, object_id, labeled.file, how, added)],
        starting_frame=[0],
        dimension=[labeled.width, labeled.height],
        device=device,
        **times,
    )
    behavior.add(series)
    return series


def _present_video(nwbfile: pynwb.NWBFile, video: Path) -> Any:
    """Return the ImageSeries of the file that is extended that refers to *video* by its name, None where there is none."""
    from pynwb.image import ImageSeries

    for series in nwbfile.acquisition.values():
        if not isinstance(series, ImageSeries) or series.container_source is None or series.external_file is None:
            continue
        if [PurePosixPath(str(file).replace("\\", "/")).name for file in series.external_file[:]] == [video.name]:
            return series
    return None


def _time_arguments(one: CheckedRecording, timing: Timing) -> dict[str, Any]:
    if timing.rate is not None:
        return {"starting_time": timing.start, "rate": timing.rate}
    return {"timestamps": streams.timestamps(one.times, timing)}


def _skeletons(behavior: Any, path: Path) -> Any:
    from ndx_pose import Skeletons

    for present in behavior.data_interfaces.values():
        if isinstance(present, Skeletons):
            return present
    if "Skeletons" in behavior.data_interfaces:
        raise InputError(
            f'{path}: processing/{MODULE} has something else called "Skeletons", where ndx-pose keeps skeletons.'
        )
    skeletons = Skeletons(name="Skeletons")
    behavior.add(skeletons)
    return skeletons


def _skeleton(skeletons: Any, one: CheckedRecording, individual: str, subject: Any) -> Any:
    """Return the skeleton of *individual*'s body parts: one that is there already where it is the same, else a new one."""
    from ndx_pose import Skeleton

    recording = one.poses
    parts = [track.bodypart for track in recording.of(individual)]
    nodes = [object_name(part) for part in parts]
    edges = [[parts.index(name) for name in edge] for edge in recording.skeleton if set(edge) <= set(parts)]
    # A skeleton is the subject's only where it is known to be: an arbitrary track name says nothing of who it was.
    whose = subject if individual == "" or individual == recording.identified else None
    for present in skeletons.skeletons.values():
        present_edges = [] if present.edges is None else np.asarray(present.edges).tolist()
        if list(present.nodes) == nodes and present_edges == edges and present.subject is whose:
            return present
    name = object_name("_".join(["Skeleton", recording.recording, *([individual] if individual == UNIQUE else [])]))
    if name in skeletons.skeletons:
        name = object_name("_".join(filter(None, ["Skeleton", recording.recording, individual, recording.model])))
    skeleton = Skeleton(
        name=name,
        nodes=nodes,
        edges=np.array(edges, dtype=np.uint8) if edges else None,
        subject=whose,
    )
    skeletons.add_skeletons(skeleton)
    return skeleton


def _pose_estimation(
    name: str,
    one: CheckedRecording,
    individual: str,
    skeleton: Any,
    device: Any,
    video: Any,
    labeled_video: Any,
    clocks: dict[str, Any],
) -> Any:
    from ndx_pose import PoseEstimation

    recording = one.poses
    series: list[Any] = []
    for track in recording.of(individual):
        added = _pose_series(track, one, clocks.get(recording.recording))
        if one.timing.whole.rate is None:
            clocks.setdefault(recording.recording, added)
        series.append(added)
    return PoseEstimation(
        name=name,
        pose_estimation_series=series,
        description=_pose_description(recording, individual),
        scorer=recording.scorer,
        source_software=recording.source_software,
        source_software_version=recording.software_version or None,
        skeleton=skeleton,
        device=device,
        source_video=video,
        labeled_video=labeled_video,
    )


def _pose_series(track: TrackLike, one: CheckedRecording, clock: Any) -> Any:
    from ndx_pose import PoseEstimationSeries

    whole = one.timing.whole
    filtered = bool(one.poses.filters)
    unknown = "was not detected, or a filter took it away" if filtered else "was not detected"
    description = f"Position of {track.bodypart} in the video frame; NaN where it {unknown}."
    if (track.individual, track.bodypart) in one.undetected:
        description += f" {NOTHING_LEFT if filtered else NEVER_DETECTED}"
    confidence = one.poses.confidence_definition
    if filtered and confidence:
        confidence += " It is that of the estimate before it was filtered."
    return PoseEstimationSeries(
        name=object_name(track.bodypart),
        description=description,
        data=streams.positions(track),
        unit="pixels",
        reference_frame=REFERENCE_FRAME,
        confidence=streams.likelihoods(track),
        confidence_definition=confidence or None,
        **({"timestamps": clock} if whole.rate is None and clock is not None else _time_arguments(one, whole)),
    )


def _pose_training(name: str, one: CheckedRecording, skeleton: Any, videos: Sequence[Any]) -> Any:
    """Return the frames that people labeled, each by its number in the video that has it: the pictures are there."""
    from ndx_pose import PoseTraining, SkeletonInstance, SkeletonInstances, TrainingFrame, TrainingFrames

    recording = one.poses
    nodes = [track.bodypart for track in recording.of("")]
    frames = []
    for number, labeled in enumerate(recording.labeled_frames):
        placed = dict(zip(labeled.bodyparts, labeled.xy, strict=True))
        where = np.array([placed.get(node, (np.nan, np.nan)) for node in nodes], dtype=np.float64)
        instance = SkeletonInstance(
            id=np.uint(number), node_locations=where, node_visibility=~np.isnan(where).any(axis=1), skeleton=skeleton
        )
        part = next(place for place, timing in enumerate(one.timing.parts) if labeled.frame < timing.last)
        frames.append(
            TrainingFrame(
                name=f"frame_{labeled.frame:07d}",
                annotator=labeled.annotator,
                skeleton_instances=SkeletonInstances(skeleton_instances=[instance]),
                source_video=videos[part] if videos else None,
                source_video_frame_index=np.uint32(labeled.frame - one.timing.parts[part].first),
            )
        )
    return PoseTraining(name=name, training_frames=TrainingFrames(training_frames=frames))


def _pose_description(recording: RecordingPoses, individual: str) -> str:
    """Say in words what the poses are; how they were made in detail is in the file's provenance."""
    files = ", ".join(video.name for video in recording.video_files)
    count = len(recording.of(individual))
    text = f'Positions of {count} body part{"s" * (count > 1)} in every frame of recording "{recording.recording}"'
    text += f" ({files})" if files else ""
    text += f' by the model "{recording.model}"' if recording.model else ""
    text += f", filtered: {recording.filters}." if recording.filters else "."
    if individual == UNIQUE:
        text += " These body parts belong to no animal."
    elif individual and individual != recording.identified:
        text += (
            f' Track "{individual}": the animals were not told apart, so that this name says which positions belong together, and '
            "nothing of which animal it was."
        )
    if len(recording.part_frame_counts) > 1:
        counts = ", ".join(str(count) for count in recording.part_frame_counts)
        text += f" The recording is split in files of {counts} frames, in this order, one ImageSeries each."
    if recording.crop is not None:
        x1, x2, y1, y2 = recording.crop
        text += f" The network saw x {x1} to {x2}, y {y1} to {y2}; positions are in the full frame."
    return text
