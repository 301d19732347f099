"""URLs of the configuration: refused with their line where they can't be used, and never shown whole."""

from __future__ import annotations

import pytest

from steersman.drivers.host.options import Endpoint
from steersman.drivers.openmetrics import OpenMetricsOptions
from steersman.drivers.web.url import check_url, public_url

GOOD = [
    "http://h",
    "https://h:8443/metrics?token=x",
    "http://u:p@[::1]:9100/metrics",
    "http://u:p%2Fw%40@h/%40me",
    "http://under_score.local:1/",
]
BAD = [
    "http://h:99999/",
    "http://h:0/",
    "http://h:port/",
    "http://:9100/metrics",
    "http://[::1/",
    "http://u:Hunter2/pw@h/",
    "http://u:12/Hunter2@h/",
    "http://u:Hunter2?pw@h/",
    "http://u:Hunter2#pw@h/",
    "http://h/a b",
    "http://h/a\nb",
]


@pytest.mark.parametrize("url", GOOD)
def test_good_urls_pass(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize("url", BAD)
def test_a_url_that_cant_be_used_is_a_mistake_in_the_configuration(url: str) -> None:
    """Not a source that fails for ever, and for one endpoint of it not all that the source could tell."""
    for make in (
        lambda: Endpoint("e", url),
        lambda: OpenMetricsOptions(url=url, mappings=["node-exporter"]),
    ):
        with pytest.raises(ValueError, match=r"^url: ") as refused:
            make()
        assert "Hunter2" not in str(refused.value)
        assert refused.value.__cause__ is None


def test_what_is_shown_has_no_credentials() -> None:
    shown = public_url("https://u:p@h:8443/metrics?token=x#y")
    assert shown == "https://h:8443/metrics"
