"""Durable background jobs: bulk ingest of what lies on the server, with progress, cancel and resume."""
