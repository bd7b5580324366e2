"""Checks of pages."""

import re
from html.parser import HTMLParser


class Links(HTMLParser):
    """Collects what a page would load, and checks that its elements nest."""

    def __init__(self):
        super().__init__()
        self.loaded, self.open = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data") and value]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check(text):
    """Asserts that a page is complete HTML, loads nothing, and follows light and dark themes and narrow screens."""
    links = Links()
    links.feed(text)
    assert text.lstrip().startswith("<!doctype html>") and not links.open
    assert all(each.startswith(("data:", "#")) for each in links.loaded)
    assert not re.search(r"@import|url\((?!#)", text) and "<script" not in text
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
