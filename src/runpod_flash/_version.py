"""The one place that says which version this is; the build backend reads it too."""

__version__ = "0.1.0"
