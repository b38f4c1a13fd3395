"""What a process that reads strangers' files is not given."""

from __future__ import annotations

import pytest

from finetuner.contract.environment import DATABASE, TOKEN, WEIGHTS, without_secrets


def test_a_reader_of_strangers_files_gets_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = (TOKEN, DATABASE, "QDRANT_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS")
    for name in (*secret, "pgpassword"):
        monkeypatch.setenv(name, "opens something")
    monkeypatch.setenv(WEIGHTS, "/weights")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    found = without_secrets()
    assert "opens something" not in found.values()
    assert (found[WEIGHTS], found["CUDA_VISIBLE_DEVICES"]) == ("/weights", "")
