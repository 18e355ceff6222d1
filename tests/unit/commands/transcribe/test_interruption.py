"""Ctrl-C and SIGTERM, put off to a moment between two writes."""

from __future__ import annotations

import signal

import pytest

from serve_app.commands.transcribe.interruption import interruptions


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_one_is_noted_and_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interruptions() as asked:
        assert not asked.is_set()
        signal.raise_signal(number)
        assert asked.is_set()
    assert signal.getsignal(number) == before


def test_second_one_does_what_it_always_did() -> None:
    with interruptions() as asked:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert asked.is_set()


def test_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptions() as asked:
            signal.raise_signal(signal.SIGINT)
            assert not asked.is_set()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
