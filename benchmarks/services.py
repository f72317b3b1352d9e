"""Why a real service that a test or a benchmark needs is not there."""

from __future__ import annotations


class ServiceMissing(Exception):
    """This machine has not what the service needs; the message says what to install."""
