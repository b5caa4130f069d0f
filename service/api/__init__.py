"""The HTTP API: one router a resource. Handlers read the request, call one use case, and shape the answer."""
