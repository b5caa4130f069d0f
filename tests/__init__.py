"""The tests: folders as the rooms of the project, what they share in `support/`."""
