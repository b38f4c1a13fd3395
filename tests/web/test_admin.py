"""Administration: tokens made and revoked, the audit log, the rooms, and nothing of it without the role."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect

from finetuner.workspace.tokens import TokenFile

from .conftest import TOKEN, Site, Visit


def test_a_token_is_made_used_and_revoked(visit: Visit, site: Site) -> None:
    visit.go("#/admin")
    page = visit.page
    expect(page.get_by_role("region", name="Rooms").get_by_role("row")).to_have_count(6)
    page.get_by_label("Name of the person or program").fill("press")
    page.get_by_label("Role").select_option("read")
    page.get_by_label("Days until it expires").fill("7")
    page.keyboard.press("Enter")
    secret = page.get_by_role("region", name="New token")
    expect(secret).to_contain_text("ft_")
    header = {"Authorization": f"token {secret.inner_text().strip()}"}
    assert httpx.get(f"{site.http}/v1/runs", headers=header).status_code == 200
    row = page.get_by_role("row").filter(has_text="press").first
    expect(row).to_contain_text("valid")
    visit.shoot("admin")
    page.get_by_role("button", name="Revoke press").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(row).to_contain_text("revoked")
    assert httpx.get(f"{site.http}/v1/runs", headers=header).status_code == 401
    page.get_by_label("Lines").select_option("200")
    expect(page.get_by_role("region", name="Audit log")).to_contain_text("POST /v1/tokens/press/revoke")
    assert "lines=200" in page.url
    digests = [token.digest for token in TokenFile(site.workspace).read()]
    listed = httpx.get(f"{site.http}/v1/tokens", headers={"Authorization": f"token {TOKEN}"}).text
    assert not any(digest in listed for digest in digests), "no hash leaves the machine"


@pytest.mark.parametrize("role", ["read", "write"])
def test_administration_needs_the_role(site: Site, role: str) -> None:
    header = {"Authorization": f"token {TokenFile(site.workspace).create(f'no-admin-{role}', role)}"}
    with httpx.Client(base_url=site.http, headers=header) as client:
        for path in ("/v1/tokens", "/v1/audit", "/v1/tokens/", "/v1/audit/"):
            assert client.get(path).status_code == 403, path
        made = {"name": "mine", "role": "admin"}
        assert client.post("/v1/tokens", json=made).status_code == 403
        assert client.post("/v1/tokens/press/revoke", json={}).status_code == 403


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"name": "<img src=x onerror=alert(1)>", "role": "read"}, 422),
        ({"name": "environment", "role": "read"}, 422),
        ({"name": "x", "role": "owner"}, 422),
        ({"name": "x", "role": "read", "days": 0}, 422),
        ({"name": "x", "role": "read", "secret": "mine"}, 422),
    ],
    ids=["markup", "reserved", "role", "days", "secret"],
)
def test_a_token_that_makes_no_sense_is_refused(site: Site, form: dict[str, object], status: int) -> None:
    answer = httpx.post(f"{site.http}/v1/tokens", json=form, headers={"Authorization": f"token {TOKEN}"})
    assert answer.status_code == status
