"""Agents of frameworks as engines: one file per framework, which imports it."""
