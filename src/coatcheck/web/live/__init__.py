"""Connections that stay open, and end with their session."""
