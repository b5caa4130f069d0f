"""The `clsp` command."""
