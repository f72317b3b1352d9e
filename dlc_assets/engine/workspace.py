"""Making the DeepLabCut project in which one network is trained, from labels and images that lie anywhere."""

from __future__ import annotations

import importlib.util
import pickle
import shutil
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dlc_assets.engine.chatter import chatter_logged
from dlc_assets.lab.errors import InputError, SettingsError, did_you_mean

_SHUFFLE = 1  # a project made here holds one split and one network
_LABELS_KEY = "df_with_missing"  # the key under which DeepLabCut keeps tables in its h5 files

ImageKey = tuple[str, str]
"""Folder and file name: what DeepLabCut knows an image by."""


@dataclass(frozen=True)
class ProjectContent:
    """What a DeepLabCut project is made of.

    Parameters
    ----------
    images
        (folder, image name, source path, positions) for each image; positions are (body parts, 2) float64, x and y in
        px, NaN where a part is not labeled.
    train, validation
        Indices into `images`. Images in neither are left out of the project.
    """

    task: str
    scorer: str
    date: str
    bodyparts: tuple[str, ...]
    skeleton: tuple[tuple[str, str], ...]
    pcutoff: float
    images: Sequence[tuple[str, str, Path, np.ndarray]]
    train: Sequence[int]
    validation: Sequence[int]


def known_net_types() -> list[str]:
    """Return the nets that can be trained: DeepLabCut's single-animal bottom-up ones.

    Read from the names of DeepLabCut's own configuration files, so that it costs no import of DeepLabCut.
    """
    return sorted(path.stem for path in (_net_configurations() / "backbones").glob("*.yaml"))


def make_training_dataset(destination: Path, content: ProjectContent, *, net_type: str) -> dict[str, Any]:
    """Build a complete DeepLabCut project in *destination*, an existing empty folder that may be moved afterwards.

    Images and labels are copied in, then DeepLabCut's ``create_training_dataset`` runs with exactly the split of
    *content* (its "test" frames are the validation frames). Nothing is downloaded.

    Returns
    -------
    dict
        ``image_count``, ``train``, ``validation`` (numbers of images), ``pytorch_config`` (dict),
        ``deeplabcut_version``.

    Raises
    ------
    SettingsError
        Unknown net, or one that is not for single animals, bottom-up.
    InputError
        An image or label that cannot be used, or a split that DeepLabCut did not take over as it was asked.
    """
    _check_net_type(net_type)
    split = _checked_split(content)
    _write_config(destination, content, net_type, split)
    _write_labeled_data(destination, content, split["train"] | split["validation"])
    with chatter_logged():
        from deeplabcut import __version__, create_training_dataset
        from deeplabcut.core.deprecation import DLCDeprecationWarning
        from deeplabcut.core.engine import Engine

        # DeepLabCut's indices count the rows of its own merged table, which it sorts by folder and name.
        rows = {key: row for row, key in enumerate(sorted(split["train"] | split["validation"]))}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DLCDeprecationWarning)  # it warns of old names that it uses itself
            create_training_dataset(
                str(destination / "config.yaml"),
                Shuffles=[_SHUFFLE],
                trainIndices=[sorted(rows[key] for key in split["train"])],
                testIndices=[sorted(rows[key] for key in split["validation"])],
                net_type=net_type,
                engine=Engine.PYTORCH,
                userfeedback=False,
            )
    _check_written_split(destination, content.scorer, split)
    return {
        "image_count": len(rows),
        "train": len(split["train"]),
        "validation": len(split["validation"]),
        "pytorch_config": _without_location(pytorch_config_file(destination)),
        "deeplabcut_version": str(__version__),
    }


def pytorch_config_file(project_root: Path) -> Path:
    """Return the one pytorch_config.yaml of a project that `make_training_dataset` made.

    Raises
    ------
    InputError
        None, or several.
    """
    found = sorted(project_root.glob("dlc-models-pytorch/iteration-*/*/train/pytorch_config.yaml"))
    if len(found) != 1:
        raise InputError(
            f"Expected one pytorch_config.yaml under {project_root / 'dlc-models-pytorch'}, found {len(found)}."
            " Make the training dataset again."
        )
    return found[0]


def read_pytorch_config(path: Path) -> dict[str, Any]:
    """Read a pytorch_config.yaml.

    Raises
    ------
    InputError
        It is missing, not YAML, or not a mapping.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as err:
        raise InputError(f"Expected DeepLabCut's pytorch_config.yaml at {path}, but it cannot be read: {err}") from err
    if not isinstance(config, dict):
        raise InputError(f"Expected a mapping in {path}, found {type(config).__name__}.")
    return config


def _net_configurations() -> Path:
    spec = importlib.util.find_spec("deeplabcut")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("deeplabcut is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "pose_estimation_pytorch" / "config"


def _check_net_type(net_type: str) -> None:
    known = known_net_types()
    if net_type in known:
        return
    others = {path.stem for path in _net_configurations().glob("*/*.yaml")} - set(known)
    if net_type in others or net_type.removeprefix("top_down_") in known:
        raise SettingsError(
            f'net_type "{net_type}" needs a detector or is made for several animals; only nets that find one animal in'
            f" the whole frame (single-animal, bottom-up) can be trained for now: {', '.join(known)}."
        )
    raise SettingsError(
        f'net_type "{net_type}" is no net of DeepLabCut.{did_you_mean(net_type, known)} Known: {", ".join(known)}.'
    )


def _checked_split(content: ProjectContent) -> dict[str, set[ImageKey]]:
    """Return the images of each half by name, after checking everything that DeepLabCut would drop without a word."""
    for what, name in (("task", content.task), ("scorer", content.scorer)):
        _check_plain_name(what, name)
    _check_distinct("body part", content.bodyparts)
    if not content.train or not content.validation:
        raise InputError(
            "Expected at least one training and one validation image,"
            f" got {len(content.train)} and {len(content.validation)}."
            " Label more frames, or change the split of the model specification."
        )
    chosen = [content.images[index] for index in (*content.train, *content.validation)]
    _check_distinct("image", [f"{folder}/{name}" for folder, name, _, _ in chosen])
    for folder, name, source, positions in chosen:
        _check_plain_name("folder", folder)
        _check_plain_name("image", name)
        _check_positions(source, positions, len(content.bodyparts))
    return {
        half: {content.images[index][:2] for index in indices}
        for half, indices in (("train", content.train), ("validation", content.validation))
    }


def _check_plain_name(what: str, name: str) -> None:
    if not name or name != Path(name).name:
        raise InputError(f'Expected a {what} whose name can name a file, got "{name}".')


def _check_distinct(what: str, names: Iterable[str]) -> None:
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise InputError(f"Each {what} may occur once, but these are repeated: {', '.join(repeated)}.")


def _check_positions(source: Path, positions: np.ndarray, bodyparts: int) -> None:
    if positions.shape != (bodyparts, 2):
        raise InputError(f"Expected positions of shape ({bodyparts}, 2) for {source}, got {positions.shape}.")
    if not np.isfinite(positions).all(axis=1).any():
        raise InputError(f"{source} has no labeled body part: label it, or leave it out of the label set.")


def _write_config(
    destination: Path, content: ProjectContent, net_type: str, split: Mapping[str, set[ImageKey]]
) -> None:
    folders = sorted({folder for keys in split.values() for folder, _ in keys})
    train, total = len(split["train"]), len(split["train"]) + len(split["validation"])
    with chatter_logged():
        from deeplabcut.core.config import ProjectConfig

        ProjectConfig(
            Task=content.task,
            scorer=content.scorer,
            date=content.date,
            multianimalproject=False,
            project_path=destination.absolute(),
            # DeepLabCut takes the folders of labeled-data from the stems of these; the videos are not needed.
            video_sets={f"videos/{folder}.mp4": {"crop": ""} for folder in folders},
            bodyparts=list(content.bodyparts),
            skeleton=[list(bone) for bone in content.skeleton],
            pcutoff=content.pcutoff,
            TrainingFraction=[round(train / total, 2)],  # as create_training_dataset rounds it
            iteration=0,
            default_net_type=net_type,
            default_augmenter="albumentations",
            snapshotindex=-1,
            batch_size=8,
        ).to_yaml(destination / "config.yaml")


def _write_labeled_data(destination: Path, content: ProjectContent, wanted: set[ImageKey]) -> None:
    import pandas as pd

    by_folder: dict[str, list[tuple[str, Path, np.ndarray]]] = {}
    for folder, name, source, positions in content.images:
        if (folder, name) in wanted:
            by_folder.setdefault(folder, []).append((name, source, positions))
    columns = pd.MultiIndex.from_product(
        [[content.scorer], list(content.bodyparts), ["x", "y"]], names=["scorer", "bodyparts", "coords"]
    )
    for folder, images in by_folder.items():
        place = destination / "labeled-data" / folder
        place.mkdir(parents=True)
        images.sort(key=lambda image: image[0])
        for name, source, _ in images:
            _copy_image(source, place / name)
        labels = pd.DataFrame(
            np.stack([positions for _, _, positions in images]).astype(np.float64).reshape(len(images), -1),
            index=pd.MultiIndex.from_tuples([("labeled-data", folder, name) for name, _, _ in images]),
            columns=columns,
        )
        table = place / f"CollectedData_{content.scorer}.h5"
        labels.to_hdf(table, key=_LABELS_KEY, mode="w")
        labels.to_csv(table.with_suffix(".csv"))


def _copy_image(source: Path, target: Path) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(source) as image:
            image.load()  # a torn file opens, but does not load; in training it would end the run hours later
    except (UnidentifiedImageError, OSError, SyntaxError) as err:
        raise InputError(f"The labeled image {source} cannot be read: {err}") from err
    shutil.copyfile(source, target)


def _check_written_split(destination: Path, scorer: str, asked: Mapping[str, set[ImageKey]]) -> None:
    """Compare DeepLabCut's own split file with what was asked, image by image."""
    import pandas as pd

    datasets = destination / "training-datasets"
    documentation = next(datasets.rglob("Documentation_data-*.pickle"), None)
    if documentation is None:
        raise InputError(f"DeepLabCut made no training dataset in {destination}.")
    table = pd.read_hdf(documentation.parent / f"CollectedData_{scorer}.h5", key=_LABELS_KEY)
    _, train, test, *_ = pickle.loads(documentation.read_bytes())
    for half, rows in (("train", train), ("validation", test)):
        written = {(str(folder), str(name)) for _, folder, name in table.index[[int(row) for row in rows]]}
        lost, extra = sorted(asked[half] - written), sorted(written - asked[half])
        if lost or extra:
            raise InputError(
                f"DeepLabCut did not take over the {half} images as asked."
                f" Missing: {_named(lost)}; not asked for: {_named(extra)}."
            )


def _named(keys: Sequence[ImageKey]) -> str:
    return ", ".join("/".join(key) for key in keys) or "none"


def _without_location(config_file: Path) -> dict[str, Any]:
    """Take the absolute paths out of the file: the project will be moved, and the file is hashed."""
    with chatter_logged():
        from deeplabcut.pose_estimation_pytorch.config.pose import PoseConfig

        config = PoseConfig.from_yaml(config_file)
        config.metadata.project_path = None
        config.metadata.pose_config_path = None
        config.to_yaml(config_file, log_changes=False)
    return read_pytorch_config(config_file)
