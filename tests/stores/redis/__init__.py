"""Tests of the store on Redis and Valkey alone."""
