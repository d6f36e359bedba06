"""Cells, their pool, and the one door to the container engine."""
