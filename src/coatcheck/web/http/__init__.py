"""What HTTP says of sessions: pure functions over headers, for ASGI and WSGI alike."""
