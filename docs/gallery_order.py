"""The order of the examples: real tables first, then what a mixture is, images, own parts."""

__all__ = ["Course"]

_COURSE = (
    "plot_frame",
    "plot_intervals",
    "plot_regimes",
    "plot_trust",
    "plot_square",
    "plot_image_pipeline",
    "plot_image_features",
    "plot_what_experts_learned",
    "plot_top1_by_hand",
    "plot_own_router",
    "plot_own_study",
)


class Course:
    """Sort the files of a folder by their place in the list; a file without a place is an error."""

    def __init__(self, src_dir):
        self.src_dir = src_dir

    def __call__(self, filename):
        """Return the place."""
        return _COURSE.index(filename.removesuffix(".py"))
