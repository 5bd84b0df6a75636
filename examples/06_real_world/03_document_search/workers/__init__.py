"""The workers of 03 Document Search, a package for each type."""
