"""The session routes: their answers, for every framework's module."""
