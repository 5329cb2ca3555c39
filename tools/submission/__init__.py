"""The challenge's package: made from score files, and checked."""
