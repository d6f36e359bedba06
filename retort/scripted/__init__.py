"""A model server that plays scripts: for demonstrations and tests, without a key and without a bill.

It speaks both dialects as real gateways do, and everything it says is marked as scripted. Nothing in the
service starts it or falls back to it; it is a program of its own: `retort scripted-model`.
"""
