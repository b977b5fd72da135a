"""The entry points of `mdexport` and `mdtrain`: which processes clear up when the system ends them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from mdexport import cli as export_cli
from mdtrain import cli as train_cli


@pytest.mark.parametrize(
    ("module", "rank", "clears_up"), [(export_cli, None, True), (train_cli, None, True), (train_cli, "1", False)]
)
def test_a_process_that_a_user_started_clears_up(
    module: ModuleType, rank: str | None, clears_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def run(*_: object, **options: Any) -> int:
        asked.update(options)
        return 0

    monkeypatch.setattr(module, "run_command", run)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)  # of a helper, as torchrun and Lightning set it
    with pytest.raises(SystemExit):
        module.main()
    assert asked == {"clears_up": clears_up}
