"""The order of the examples: from the basics of a mixture to a study of your own."""

__all__ = ["Course"]

_COURSE = (
    "plot_regimes",
    "plot_hierarchical_mixture",
    "plot_what_experts_learned",
    "plot_calibrated_probabilities",
    "plot_fairness_by_expert",
    "plot_regression_regions",
    "plot_grid_search_experts",
    "plot_setting1",
    "plot_own_router",
    "plot_upcycling",
    "plot_image_features",
    "plot_cifar10_pipeline",
    "plot_rotation_routing",
    "plot_own_study",
)


class Course:
    """Sort the files of a folder by their place in the list; a file without a place is an error."""

    def __init__(self, src_dir):
        self.src_dir = src_dir

    def __call__(self, filename):
        """Return the place."""
        return _COURSE.index(filename.removesuffix(".py"))
