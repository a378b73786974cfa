"""The OTA plugin: keeps the board's files up to date, and never leaves them half changed."""

from .module import Module

__all__ = ("Module",)
