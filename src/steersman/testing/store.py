"""The one suite that every store passes.

A check is an async function of one argument: how to make a store (`MakeStore`). It raises AssertionError
with what was expected and what came. No test runner is imported, so a backend of your own can run them
anywhere; with pytest it is four lines:

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    async def test_contract(check, tmp_path):
        await check(lambda clock: MyStore(tmp_path, clock=clock))

`CHECKS` are for every store, `DURABLE_CHECKS` for those that outlive their process. A check never asks which
store it has. Beside the examples here there are two that find what nobody thought of: `store_machine`
(hypothesis, with the memory store as the model) and `store_history` (judges a recording of many clients).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from steersman.testing import store_leases, store_values, store_watch
from steersman.testing.store_expect import MakeStore

StoreCheck = Callable[[MakeStore], Awaitable[None]]

CHECKS: tuple[StoreCheck, ...] = (*store_values.CHECKS, *store_watch.CHECKS, *store_leases.CHECKS)
"""What every store does."""

DURABLE_CHECKS: tuple[StoreCheck, ...] = store_leases.DURABLE_CHECKS
"""What a store does beside that when its data outlives it."""
