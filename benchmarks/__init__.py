"""Repeatable measurements; never part of the tests."""
