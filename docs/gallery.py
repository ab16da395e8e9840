"""The order of the examples on the site: what a reader needs first comes first."""

import warnings
from pathlib import Path

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


def plain_warnings(gallery_conf, name):
    """Show a warning of an example without the path of the file that it came from."""
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"
