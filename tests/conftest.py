"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.left_behind import Running, watch_starts

watch_starts()


@pytest.fixture(autouse=True)
def _ends_all_it_starts() -> Iterator[None]:
    """Fail a test that leaves threads or child processes behind; it is set up first of its fixtures and ends last."""
    before = Running.now()
    yield
    if left := before.left_behind():
        pytest.fail(f"the test left behind:\n{''.join(left)}", pytrace=False)
