"""Sessions in HTTP: pure functions over the facts of a request and over headers, for ASGI and WSGI alike."""
