"""The `clsp` commands that train, caption and judge."""
