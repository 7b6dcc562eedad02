"""Settings of who may call: lists for each platform there is, proxies, the rate of an address."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config import load_settings
from shared.errors import ConfigError
from shared.platforms import PLATFORMS

SECURITY = "CLAWDBOT_SECURITY__"


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(
    "written",
    ["192.0.2.1, 2001:db8::/32", '["192.0.2.1", "2001:db8::/32"]', ",192.0.2.1,2001:db8::/32,"],
)
def test_every_platform_has_a_list(platform: str, written: str, tmp_path: Path) -> None:
    security = load_settings(
        {f"{SECURITY}ALLOW_CIDRS__{platform.upper()}": written}, cwd=tmp_path
    ).security

    assert security.allow_cidrs.of(platform) == ("192.0.2.1/32", "2001:db8::/32")
    assert [name for name in PLATFORMS if security.allow_cidrs.of(name)] == [platform]


def test_lists_stand_in_yaml_too(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "security:\n  allowCidrs:\n    feishu: [192.0.2.0/24, '::ffff:198.51.100.1']\n"
        "  trusted_proxies: 10.0.0.0/8\n"
    )

    security = load_settings({"CLAWDBOT_CONFIG": "c.yaml"}, cwd=tmp_path).security

    assert security.allow_cidrs.of("feishu") == ("192.0.2.0/24", "198.51.100.1/32")
    assert security.trusted_proxies == ("10.0.0.0/8",)


@pytest.mark.parametrize(
    ("name", "written", "told"),
    [
        ("TRUSTED_PROXIES", "10.0.0.0/8,hush.example", "entry 2 of 2 is neither"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "entry 1 of 1 is an address with a prefix"),
        ("ALLOW_CIDRS__FEISHU", "192.0.2.1;192.0.2.2", "entry 1 of 1 is neither"),
        ("ALLOW_CIDRS__FEISHU", "[1, 2]", "must be text"),
        ("ALLOW_CIDRS__NOBODY", "192.0.2.1", "is not a setting"),
        ("ALLOW_CIDRS", "192.0.2.1", "is a group of settings"),
        ("ADDRESS_QPS", "-1", "must be at least 0"),
    ],
)
def test_a_wrong_list_is_told_by_its_name_and_place(
    name: str, written: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({SECURITY + name: written}, cwd=tmp_path)

    assert caught.value.problems
    for problem in caught.value.problems:
        assert problem.startswith(f"{SECURITY}{name} (environment)")
        assert told in problem
        assert "hush" not in problem


@pytest.mark.parametrize(
    ("given", "rate"), [({}, 1000), ({"QPS": "7"}, 14), ({"ADDRESS_QPS": "3"}, 3)]
)
def test_an_address_has_twice_the_rate_of_all_unless_told(
    given: dict[str, str], rate: int, tmp_path: Path
) -> None:
    environ = {SECURITY + name: value for name, value in given.items()}

    assert load_settings(environ, cwd=tmp_path).security.calls_per_address == rate


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0", "10.0.0.0/8,0.0.0.0/0"])
def test_believing_everybody_is_warned_of(everybody: str, tmp_path: Path) -> None:
    settings = load_settings({f"{SECURITY}TRUSTED_PROXIES": everybody}, cwd=tmp_path)

    assert any("TRUSTED_PROXIES" in warning for warning in settings.warnings())
