"""What stands between the socket and a route: keys, limits, load, logs."""
