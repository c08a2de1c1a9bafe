"""Pages as a browser would read them, and values made to break out of them."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "footer", "section", "h1", "h2", "h3"),
    *("p", "ul", "li", "dl", "dt", "dd", "div", "span", "strong", "code", "bdi", "wbr", "details", "summary"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption"),
    *("svg", "desc", "rect", "line", "circle", "path", "text"),
}
ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "class", "scope", "data-label", "role", "aria-hidden"),
    *("width", "height", "x", "y", "dx", "x1", "y1", "x2", "y2", "cx", "cy", "r", "d", "viewbox"),
    *("text-anchor", "overflow"),
}
VOID = {"meta", "wbr"}
POLICY = re.compile(
    r"default-src 'none'; style-src 'sha256-([A-Za-z0-9+/=]+)'; img-src 'none'; base-uri 'none'; form-action 'none'"
)

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>'",
    "</style><style>*{display:none}</style>",
    "</title></bdi></code></td></table></svg><svg/onload=alert(1)>",
    "]]><!--<![CDATA[",
    "&lt;script&gt;&#60;b&#62;",
    "\u202egnp.exe\u2066\u2028\u200b\ufeff",
    "a\0b\x1b[31m\x7f\x9b\r\n",
    "\ud800\udfff",
    "Z" + "\u0301\u0323" * 500,
    "javascript:alert(1)",
    "{{7*7}}${7*7}%s%n",
    "x" * 1_000_000,
]


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        assert len({name for name, _ in attrs}) == len(attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"a processing instruction: {data}")

    @property
    def text(self) -> str:
        """All that can be read, as one text."""
        return "".join(text for tag, text in self.texts if tag != "style")

    def inside(self, tag: str) -> list[str]:
        """Give the texts that stand directly in elements of this name."""
        return [text for where, text in self.texts if where == tag]

    def all(self, tag: str, class_: str | None = None) -> list[dict[str, str]]:
        """Give the attributes of all elements of this name and class."""
        return [
            attributes
            for name, attributes in self.elements
            if name == tag and (class_ is None or class_ in attributes.get("class", "").split())
        ]

    def classes(self) -> set[str]:
        """Give every class that occurs."""
        return {name for _, attributes in self.elements for name in attributes.get("class", "").split()}


def read_page(html: str) -> Page:
    """Read a whole page, and check that nothing in it could run, load, send or disguise anything."""
    assert html.startswith("<!DOCTYPE html>\n<html lang=")
    html.encode()
    page = read_markup(html)
    (style,) = page.inside("style")
    assert len(page.all("style")) == 1
    metas = {meta.get("http-equiv", meta.get("name", "")): meta.get("content", "") for meta in page.all("meta")}
    policy = POLICY.fullmatch(metas["Content-Security-Policy"])
    assert policy is not None
    assert policy[1] == base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert metas["referrer"] == "no-referrer"
    assert "url(" not in style
    assert "@import" not in style
    return page


def read_markup(html: str) -> Page:
    """Read a part of a page, and check that it holds only elements and attributes that can do nothing."""
    page = Page(html)
    for tag, attributes in page.elements:
        assert tag in ELEMENTS, tag
        assert set(attributes) <= ATTRIBUTES, attributes
    for where, text in page.texts:
        assert where in ("style", "") or all(letter.isprintable() for letter in text), repr(text[:80])
    return page
