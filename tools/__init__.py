"""Metrics, tables, pictures and the commands beside train.py."""
