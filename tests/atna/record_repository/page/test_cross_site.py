"""Whose request it is, by what browsers say."""

import pytest

from atna.record_repository.page.cross_site import from_elsewhere

URL = "https://audit.example.lu:8040/log/en/search"


@pytest.mark.parametrize(
    ("method", "headers", "refused"),
    [
        ("POST", {"sec-fetch-site": "same-origin", "origin": "null"}, False),
        ("POST", {"sec-fetch-site": "none"}, False),
        ("POST", {"sec-fetch-site": "same-site", "origin": "https://audit.example.lu:8040"}, True),
        ("POST", {"sec-fetch-site": "cross-site"}, True),
        ("POST", {"origin": "https://audit.example.lu:8040"}, False),
        ("POST", {"origin": "https://audit.example.lu"}, True),
        ("POST", {"origin": "http://audit.example.lu:8040"}, True),
        ("POST", {"origin": "null"}, True),
        ("POST", {}, False),
        ("GET", {}, False),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-dest": "document"}, False),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe"}, True),
        ("GET", {"sec-fetch-site": "same-site", "sec-fetch-dest": "image"}, True),
        ("GET", {"sec-fetch-site": "same-origin", "sec-fetch-dest": "document"}, False),
    ],
)
def test_only_our_own_pages_send_forms_and_nobody_loads_ours_into_his(method, headers, refused):
    assert from_elsewhere(method, URL, headers) is refused
