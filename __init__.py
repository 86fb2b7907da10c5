"""Practicum: deep-learning experiments in JAX."""
