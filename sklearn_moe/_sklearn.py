"""What scikit-learn has in some versions only."""

__all__ = ["CallbackSupportMixin"]

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # before 1.9

    class CallbackSupportMixin:
        """Stands in for scikit-learn's support of callbacks, which this version lacks."""
