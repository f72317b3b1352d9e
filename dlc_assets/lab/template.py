"""The files of a new lab: a commented lab.yaml, example files beside it, and folders to drop things into."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.files import write_text
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.machine_zone import machine_zone

_LAB = """\
# Your lab. Every key has a default; what is commented out shows its form. Unknown keys are errors, so that no typo goes unnoticed.
name: {name}
# institution: University of Somewhere
{timezone}
# experimenters: ["Last, First"]

# Where videos lie below a root folder, and what the parts of their paths mean.
#   {{subject}}   (optional) the animal       {{session}}   which recordings belong together     {{camera}}   the device
#   {{recording}} or {{trial}}  several separate recordings of one camera in a session
#   {{part}}      one recording that the camera split into files, in order
recordings:
  - {{root: recordings, template: "{{subject}}/{{session}}/{{camera}}.mp4"}}
  # - {{root: /mnt/rig2, template: "{{session}}_{{camera}}_{{part}}.avi", ignore: ["*_test*"]}}
  # - {{root: /mnt/rig3, template: "{{subject}}_{{session}}.mp4", camera: side}}

devices:
  top: {{description: camera above the arena}}
  # side: {{description: camera beside the arena, manufacturer: Basler, model: acA1300-200um}}

# What belongs to a camera over a period. A network sees only the crop (px of the upright frame: first column or row, first one
# left out); poses are in the full frame all the same. Scale and regions (rectangles, polygons, circles, px) are for what is measured; a
# reference (a picture, or a session) shows where the camera stood, so that it is noticed when it has moved.
# setups:
#   top:
#     - {{until: 2026-08-31, crop: {{x: [0, 640], y: [0, 480]}}, scale: {{px_per_cm: 8.1}}}}
#     - from: 2026-09-01
#       crop: {{x: [80, 720], y: [0, 480]}}
#       scale: {{px_per_cm: 8.3}}
#       regions: {{center: [[240, 140], [440, 340]], feeder: {{circle: {{center: [100, 90], radius: 40}}}}}}
#       arena: [[90, 10], [710, 470]]
#       reference: sub-m01_ses-20260901

# What archives ask of each animal. subject_defaults: what all have that do not state it themselves.
# subject_defaults: {{species: Mus musculus, strain: C57BL/6J}}
# subjects:
#   m01: {{sex: F, date_of_birth: 2026-02-01, genotype: wt, tags: {{group: control}}}}
#   m02: {{species: Rattus norvegicus, sex: M, age: P12W, weight: 310 g}}

# Which model analyses which recordings by itself; the first rule that matches a recording counts. `dlc-assets release` writes such
# rules, after saying what they change.
# release:
#   - {{devices: [top], model: openfield@1a2b3c4d, until: 2026-12-31}}   # this very version, for sessions up to that day
#   - {{devices: [top], model: openfield}}            # the model's newest version, whenever it is trained again
# on_release: new_sessions                   # or all: a release analyses past sessions again as well
# release_requirements: {{max_error: 5, min_labels: 100}}   # what a version must show before it is released

# Sessions before `since` are analysed on command only (`dlc-assets analyze`), so that an old archive is not queued whole.
analyze: {{auto: true, since: {today}}}

# inference:
#   precision: float32                       # or proven: a faster one, for models that have proof
#   batch_size: auto
#   dynamic_cropping: {{threshold: 0.5, margin: 10}}   # look only around where the animal was in the frame before
# What is made of released poses by itself (review: {{auto: false}} turns it off): filtered poses, measures, a report on each session.
# filters: [{{step: confidence}}, {{step: interpolate, max_gap: 0.1}}, {{step: median, window: 0.1}}]   # or none
# kinematics: {{body_axis: [tailbase, snout], distances: [[tailbase, snout]]}}
# checks: {{jumps: {{max_speed: 25}}, drift: off}}   # what counts as odd in poses
# labeled_video: {{auto: true, poses: filtered}}     # draw the poses of every session onto its video
# nwb: {{videos: link}}                      # link | copy | leave_out
# dandi: {{instance: dandi-sandbox, dandiset: "000123"}}   # where `dlc-assets publish` uploads to
# Who is told of failures, of progress that stops, and daily of everything. Passwords and the URL of a webhook are secrets: they go
# into environment variables, never into this file. `dlc-assets notify --test` tries it.
# notify:
#   mail: {{to: [ann@example.org], from: lab@example.org, host: smtp.example.org}}
#   webhook: {{format: slack}}               # json | slack | discord | teams
#   digest_at: "08:00"
# projects: {{openfield: /data/dlc/openfield-Pranav-2018-10-30}}   # DeepLabCut projects that lie elsewhere
"""

_MODEL = """\
# A model specification: copy it to models/<model>.yaml (without ".example"), and change what you need. The file's name names the model.
project: my-project                        # a folder under projects/, or a name from lab.yaml's projects
label_set: {videos: all}                   # or a list of folders of labeled-data; scorers: [Name, ...] in order of preference
split: {by: video, train: 0.8, validation: 0.1, benchmark: 0.1, seed: 1}
net_type: resnet_50
weights: imagenet                          # random | model:<name>[@version] | file:<path>
training: {epochs: 200, batch_size: 8, save_epochs: 25, seed: 42, max_snapshots: 5}
# pytorch_config: {model.backbone.model_name: resnet18}      # any entry of DeepLabCut's pytorch_config.yaml, dotted
"""

_SESSION = """\
# What is known of one session beyond its videos: copy it as session.yaml into the folder of the session's videos, or as
# <session key>.yaml where several sessions share a folder.
start: 2026-05-01T10:12:00+02:00
description: open field, first day
tags: {drug: saline}
# recordings:
#   top: {device: top, offset: 0.0}        # s from the session's start to the first frame
#   side: {crop: {x: [0, 640], y: [0, 480]}}   # in the place of the setup's in lab.yaml; crop: none for the whole frame
# consent: {videos: true, by: "Last, First", date: 2026-05-01}   # of a person: else videos and pictures stay in the lab
# identity: {how: marked, by: "Last, First", individuals: {mouse1: m01, mouse2: m02}}   # several animals: which track is which
# nwb: {extend: ephys.nwb}                 # an NWB file of another instrument, to which the poses are added
"""


def write_new_lab(
    root: Path, *, name: str | None = None, today: date | None = None, timezone: str | None = None
) -> list[Path]:
    """Write the files of a new lab into *root*; return what was written. *timezone* is the machine's unless stated.

    Raises
    ------
    SettingsError
        There is a lab already: nothing of it is touched.
    """
    layout = LabLayout(root)
    if layout.settings_file.exists():
        raise SettingsError(f"{root} is a lab already (it has a lab.yaml): nothing was changed. Name another folder.")
    if root.exists() and not root.is_dir():
        raise SettingsError(f"{root} is a file: name a folder for the lab.")
    for folder in (layout.projects, layout.specifications, root / "recordings", layout.store):
        folder.mkdir(parents=True, exist_ok=True)
    files = {
        layout.specifications / "openfield.yaml.example": _MODEL,
        root / "session.yaml.example": _SESSION,
        # last: a folder is a lab once it has this file
        layout.settings_file: _LAB.format(
            name=_quoted(name or root.resolve().name),
            today=(today or date.today()).isoformat(),
            timezone=_timezone(timezone or machine_zone()),
        ),
    }
    for path, text in files.items():
        write_text(path, text)
    return list(files)


def _timezone(zone: str | None) -> str:
    """Return the line of lab.yaml; in comments where no zone is known, so that nobody takes a guess for the lab's word."""
    said = "completes times that state no zone"
    if zone is None:
        return (
            f"# timezone: Europe/Zurich                  # {said}; NWB files are not written from such times without it"
        )
    return f"{f'timezone: {zone}':<42} # this machine's; {said}: correct it where the cameras are elsewhere"


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
