"""Imported by the process that a Flow's rooms fork from. Alone in the package, it works when it is imported."""

from ..models.lean_open_clip import import_lean

import_lean()
