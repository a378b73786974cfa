"""The web page and its API: see docs/api.md."""

from .module import Module

__all__ = ("Module",)
