"""nbmlops: one magic from a notebook cell to a guarded, monitored model service that retrains itself."""

__version__ = "0.1.0"
