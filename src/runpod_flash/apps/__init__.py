"""Applications: found in folders, served as one, built and deployed."""
