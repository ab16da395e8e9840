"""The examples on the site: their order, by what a reader needs first, and their thumbnails."""

import re
import warnings
from pathlib import Path

from PIL import Image

ORDER = (
    *("forget_digits", "pretrained_network", "forget_a_face", "forget_by_distillation"),
    *("forget_a_speaker", "twenty_requests", "text_embedding", "compare_methods", "grid_search"),
    *("watch_forgetting", "correlation_collapse", "custom_unlearner"),
)


class ByNeed:
    """A key that sorts files by `ORDER`; others, as the study's pages, follow by name."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, name):
        """Return the place of a file."""
        name = Path(name).stem.removeprefix("plot_")
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)

    def __repr__(self):
        return f"<{type(self).__name__}>"


def crop_thumbnails(app):
    """Cut thumbnails out of the left upper part of their plots, whose labels can be read there.

    sphinx-gallery makes a whole plot small, with blank space around it.
    """
    size = app.config.sphinx_gallery_conf["thumbnail_size"]
    for folder in app.config.sphinx_gallery_conf["gallery_dirs"]:
        for thumbnail in Path(app.srcdir, folder, "images", "thumb").glob("sphx_glr_*_thumb.png"):
            name = thumbnail.stem.removeprefix("sphx_glr_").removesuffix("_thumb")
            source = Path(app.srcdir, folder, f"{name}.py").read_text(encoding="utf-8")
            number = re.findall(r"^# sphinx_gallery_thumbnail_number = (\d+)", source, re.M)
            plot = thumbnail.parents[1] / f"sphx_glr_{name}_{int((number or [1])[0]):03}.png"
            if plot.exists():
                crop(Image.open(plot).convert("RGB"), size).save(thumbnail)


def crop(image, size):
    """Return the left upper part of an image in the proportions of a size, and scaled to it."""
    scale = min(image.width / size[0], image.height / size[1])
    part = image.crop((0, 0, round(scale * size[0]), round(scale * size[1])))
    return part.resize(size, Image.Resampling.LANCZOS)


def plain_warnings(gallery_conf, name):
    """Show a warning of an example without the path of the file that it came from."""
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"
