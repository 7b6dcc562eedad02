"""What stops `make up`, in words for the person at the terminal."""

from __future__ import annotations


class StackError(Exception):
    """The stack can't be started, reached or stopped; the text says why and what to do."""
