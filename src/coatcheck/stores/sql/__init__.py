"""Stores over SQL databases."""
