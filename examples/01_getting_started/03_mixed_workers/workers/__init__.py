"""The workers of 03 Mixed Workers, a package for each type."""
