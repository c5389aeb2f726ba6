"""Runs the tests of a module on asyncio's event loop and on uvloop, which the daemon uses: import both names."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

# The hook that replaces this fixture would choose the event loop of every test of the suite.
ON_BOTH_LOOPS = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy:pytest.PytestDeprecationWarning")


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    policy: asyncio.AbstractEventLoopPolicy = request.param()
    return policy
