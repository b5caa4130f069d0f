"""Heads on cached features of frozen towers."""
