"""Making the DeepLabCut project in which one network is trained, from labels and images that lie anywhere."""

from __future__ import annotations

import contextlib
import importlib.util
import pickle
import random
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dlc_assets.engine.chatter import chatter_logged
from dlc_assets.engine.detectors import FLIP_WARNING
from dlc_assets.engine.net_types import ChosenNetwork, chosen_network, known_net_types
from dlc_assets.lab.errors import InputError, SettingsError, did_you_mean

__all__ = ["ProjectContent", "known_net_types", "make_training_dataset", "pytorch_config_file", "read_pytorch_config"]

_PLAIN_NET = "resnet_50"  # DeepLabCut makes every project with it
_SHUFFLE = 1  # a project made here holds one split and one network
_LABELS_KEY = "df_with_missing"  # the key under which DeepLabCut keeps tables in its h5 files

ImageKey = tuple[str, str]
"""Folder and file name: what DeepLabCut knows an image by."""


class _Yaml(yaml.SafeLoader):
    """Reads ``1e-05`` as the number that DeepLabCut means by it, which for YAML 1.1 is a text."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


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


def superanimal_bodyparts(superanimal: str) -> list[str]:
    """Return the body parts of a SuperAnimal, as DeepLabCut's own file lists them; costs no import of DeepLabCut."""
    file = _deeplabcut_folder() / "modelzoo" / "project_configs" / f"{superanimal}.yaml"
    return [str(name) for name in yaml.safe_load(file.read_text(encoding="utf-8"))["bodyparts"]]


def check_bodyparts(chosen: ChosenNetwork, bodyparts: Sequence[str]) -> None:
    """Check that the heads of a SuperAnimal, where they are taken over, know the project's *bodyparts* by the same names.

    Raises
    ------
    SettingsError
        Names those that it does not know.
    """
    if not chosen.with_heads:
        return
    assert chosen.superanimal is not None
    known = superanimal_bodyparts(chosen.superanimal)
    strange = [f"{name}{did_you_mean(name, known)}" for name in bodyparts if name not in known]
    if strange:
        raise SettingsError(
            f"weights: the heads of {chosen.superanimal} are taken over body part by body part, by equal names, and these of"
            f" the project are none of its: {'; '.join(strange)}. It knows: {', '.join(known)}. Say `weights_part: backbone`"
            " to begin with its backbone alone, or leave these body parts out of the project."
        )


def make_training_dataset(
    destination: Path,
    content: ProjectContent,
    *,
    net_type: str,
    detector: str | None = None,
    weights: str = "random",
    weights_part: str = "all",
    memory_replay: bool = False,
) -> dict[str, Any]:
    """Build a complete DeepLabCut project in *destination*, an existing empty folder that may be moved afterwards.

    Images and labels are copied in, then DeepLabCut's ``create_training_dataset`` runs with exactly the split of
    *content* (its "test" frames are the validation frames). Nothing is downloaded.

    Parameters
    ----------
    net_type, detector, weights, weights_part, memory_replay
        As in a model specification. Of the weights only a SuperAnimal matters here, whose heads bring their architecture along.

    Returns
    -------
    dict
        ``image_count``, ``train``, ``validation`` (numbers of images), ``pytorch_config`` (dict),
        ``deeplabcut_version``.

    Raises
    ------
    SettingsError
        A network that is unknown or cannot be trained here, or settings of it that do not go together.
    InputError
        An image or label that cannot be used, or a split that DeepLabCut did not take over as it was asked.
    """
    chosen = chosen_network(
        net_type,
        detector=detector,
        weights=weights,
        weights_part=weights_part,
        memory_replay=memory_replay,
        bodyparts=content.bodyparts,
    )
    check_bodyparts(chosen, content.bodyparts)
    split = _checked_split(content)
    _write_config(destination, content, split)
    _write_labeled_data(destination, content, split["train"] | split["validation"])
    with chatter_logged(), warnings.catch_warnings():
        from deeplabcut import __version__, create_training_dataset
        from deeplabcut.core.deprecation import DLCDeprecationWarning
        from deeplabcut.core.engine import Engine

        # DeepLabCut's indices count the rows of its own merged table, which it sorts by folder and name.
        rows = {key: row for row, key in enumerate(sorted(split["train"] | split["validation"]))}
        warnings.simplefilter("ignore", DLCDeprecationWarning)  # it warns of old names that it uses itself
        warnings.filterwarnings(
            "ignore", message=FLIP_WARNING
        )  # right for detectors, which are the only ones to flip here
        create_training_dataset(
            str(destination / "config.yaml"),
            Shuffles=[_SHUFFLE],
            trainIndices=[sorted(rows[key] for key in split["train"])],
            testIndices=[sorted(rows[key] for key in split["validation"])],
            net_type=_PLAIN_NET if _has_own_configuration(chosen) else net_type,
            detector_type=None if _has_own_configuration(chosen) else chosen.detector,
            engine=Engine.PYTORCH,
            userfeedback=False,
        )
        if _has_own_configuration(chosen):
            _write_own_configuration(destination, chosen)
        _fit_crops(pytorch_config_file(destination))
        pytorch_config = _without_location(pytorch_config_file(destination))
    _check_written_split(destination, content.scorer, split)
    return {
        "image_count": len(rows),
        "train": len(split["train"]),
        "validation": len(split["validation"]),
        "pytorch_config": pytorch_config,
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
        config = yaml.load(path.read_text(encoding="utf-8"), _Yaml)
    except (OSError, yaml.YAMLError) as err:
        raise InputError(f"Expected DeepLabCut's pytorch_config.yaml at {path}, but it cannot be read: {err}") from err
    if not isinstance(config, dict):
        raise InputError(f"Expected a mapping in {path}, found {type(config).__name__}.")
    return config


def _deeplabcut_folder() -> Path:
    spec = importlib.util.find_spec("deeplabcut")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("deeplabcut is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def _has_own_configuration(chosen: ChosenNetwork) -> bool:
    """Tell whether ``create_training_dataset`` cannot make the configuration of a network.

    For single animals it gives part affinity fields no graph, and with the heads of a SuperAnimal it writes this machine's paths.
    """
    return chosen.with_heads or chosen.net.fewest_bodyparts > 1


def _write_own_configuration(destination: Path, chosen: ChosenNetwork) -> None:
    from deeplabcut.pose_estimation_pytorch.config.pose import PoseConfig

    config_file = pytorch_config_file(destination)
    if chosen.with_heads:
        config = superanimal_configuration(destination / "config.yaml", config_file, chosen)
    else:
        with _same_random_numbers():  # many body parts: DeepLabCut draws which pairs of them are joined
            config = PoseConfig.build(
                destination / "config.yaml",
                config_file,
                net_type=chosen.net.name,
                top_down=False,
                multi_animal=True,
            )
    config_file.unlink()
    config.to_yaml(config_file)


def _fit_crops(config_file: Path) -> None:
    """Let the detector's boxes be cut out in the size that the head is made for.

    DeepLabCut writes its own default, 256 px, over the size that RTMPose's configuration asks for; its largest could not be trained.
    """
    from deeplabcut.pose_estimation_pytorch.config.pose import PoseConfig

    config = PoseConfig.from_yaml(config_file).to_dict(normalize=True)
    size = next((head["input_size"] for head in config["model"]["heads"].values() if "input_size" in head), None)
    if size is None:
        return
    for use in ("train", "inference"):
        crop = config["data"][use].get("top_down_crop") or {}
        config["data"][use]["top_down_crop"] = {**crop, "width": size[0], "height": size[1]}
    config_file.unlink()
    PoseConfig.from_dict(config).to_yaml(config_file)


def superanimal_configuration(project_config: Path, config_file: Path, chosen: ChosenNetwork) -> Any:
    """Return DeepLabCut's `PoseConfig` for going on with a SuperAnimal and its heads; the weights are not named in it."""
    import numpy as np
    from deeplabcut.core.config import ProjectConfig
    from deeplabcut.core.weight_init import WeightInitialization
    from deeplabcut.pose_estimation_pytorch.config.pose import PoseConfig

    assert chosen.superanimal is not None
    bodyparts = list(ProjectConfig.from_yaml(project_config).bodyparts)
    known = superanimal_bodyparts(chosen.superanimal)
    config = PoseConfig.build_for_superanimal_finetune(
        ProjectConfig.from_yaml(project_config),
        model_name=chosen.net.network,
        detector_name=chosen.detector,
        pose_config_path=config_file,
        weight_init=WeightInitialization(
            dataset=chosen.superanimal,
            with_decoder=True,
            memory_replay=chosen.memory_replay,
            conversion_array=np.array([known.index(name) for name in bodyparts]),
            bodyparts=bodyparts,
        ),
    )
    config.train_settings.weight_init = None
    for head in config.model.heads.values():
        if "out_channels" in head:  # RTMPose's, which DeepLabCut leaves at the number that its SuperAnimal has
            head["out_channels"] = len(known if chosen.memory_replay else bodyparts)
    return config


@contextlib.contextmanager
def _same_random_numbers() -> Iterator[None]:
    before = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(before)


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


def portable_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pytorch_config without the paths of the machine that trained: they would change every version's hash."""
    metadata = {
        key: ("" if key in {"project_path", "pose_config_path"} else value)
        for key, value in dict(config.get("metadata") or {}).items()
    }
    return {**config, "metadata": metadata, "resume_training_from": None}


def _check_distinct(what: str, names: Iterable[str]) -> None:
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise InputError(f"Each {what} may occur once, but these are repeated: {', '.join(repeated)}.")


def _check_positions(source: Path, positions: np.ndarray, bodyparts: int) -> None:
    if positions.shape != (bodyparts, 2):
        raise InputError(f"Expected positions of shape ({bodyparts}, 2) for {source}, got {positions.shape}.")
    if not np.isfinite(positions).all(axis=1).any():
        raise InputError(f"{source} has no labeled body part: label it, or leave it out of the label set.")


def _write_config(destination: Path, content: ProjectContent, split: Mapping[str, set[ImageKey]]) -> None:
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
            default_net_type=_PLAIN_NET,
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
