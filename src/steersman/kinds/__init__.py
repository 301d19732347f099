"""The nouns: what the program talks about, as pure data with pure methods.

Structs of msgspec, frozen where they are values, validated when they are decoded at an edge. A module a
concept. Nothing in here reads a clock, does I/O or knows a store; methods that need the time take it.
"""
