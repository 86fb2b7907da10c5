"""The defaults under the name by which experiments of earlier versions import them; see training/defaults.py."""

from practicum.training.defaults import base as base
