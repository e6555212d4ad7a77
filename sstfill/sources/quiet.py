# SPDX-License-Identifier: Apache-2.0
"""Keep the messages of another library low for a while."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(logger: logging.Logger, level: int) -> Iterator[None]:
    """Let a logger pass nothing below a level in this context."""
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
