"""What scikit-learn has in some versions only."""

__all__ = ["CallbackSupportMixin"]

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]  # one or the other
        """Stands in for scikit-learn's support of callbacks, which this version lacks."""
