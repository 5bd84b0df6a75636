"""The workers of 02 Media Processing, a package for each type."""
