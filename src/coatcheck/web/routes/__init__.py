"""What the session routes answer, for every framework's module."""
