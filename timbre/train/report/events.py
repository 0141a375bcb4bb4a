"""What TensorBoard's event files hold of a run: curves, the last pictures and sounds."""

from typing import NamedTuple

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from timbre import pages, storage
from timbre.train.watch import event_files

Curve = list[tuple[int, float]]


class PairPicture(NamedTuple):
    """A validation pair as it was shown last: its picture and its sounds, as URIs.

    Attributes:
        key: the pair's.
        step: of the picture.
        picture: spectrograms, from top to bottom the sides in ``title``.
        title: the names of the sides.
        sounds: URI by side.
    """

    key: str
    step: int
    picture: str
    title: str
    sounds: dict[str, str]


class Events(NamedTuple):
    """Curves by tag, and the pairs that were shown."""

    curves: dict[str, Curve]
    pictures: list[PairPicture]


def load(run_dir: str) -> Events:
    """Return what the run has logged so far; nothing where it has no event files."""
    local = storage.is_local(run_dir)
    folder = storage.join(
        str(storage.local_path(run_dir)) if local else run_dir, event_files.FOLDER
    )
    if not storage.is_folder(folder):
        return Events({}, [])
    guidance = {"scalars": 0, "images": 1, "audio": 1}  # 0: all; of the others the last
    events = EventAccumulator(folder, size_guidance=guidance)
    events.Reload()
    tags = events.Tags()
    curves = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}
    sounds: dict[str, dict[str, str]] = {}
    for tag in tags["audio"]:
        key, _, side = tag.removeprefix("pair/").rpartition("/")
        sound = events.Audio(tag)[-1].encoded_audio_string
        sounds.setdefault(key, {})[side] = pages.data_uri(sound, "audio/wav")
    pictures = []
    for tag in tags["images"]:
        key, _, sides = tag.removeprefix("pair/").rpartition("/")
        image = events.Images(tag)[-1]
        names = sides.split("_")
        ordered = {name: sounds[key][name] for name in names if name in sounds.get(key, {})}
        picture = pages.data_uri(image.encoded_image_string, "image/png")
        pictures.append(PairPicture(key, image.step, picture, ", ".join(names), ordered))
    return Events(curves, pictures)
