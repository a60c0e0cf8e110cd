"""Where the project and its site live on the web, which the project itself does not know."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from implreg.errors import InputError

BINDER = "https://mybinder.org"
COLAB = "https://colab.research.google.com"
GITHUB = "https://github.com/"


@dataclass(frozen=True)
class Address:
    """Addresses on the web, each empty if it is not known.

    Attributes:
        repository: of the project, such as ``https://github.com/owner/name``.
        branch: of the repository that holds the chapters.
        site: where the built site is published, with a slash at its end.
    """

    repository: str = ""
    branch: str = "main"
    site: str = ""

    @property
    def binder(self) -> str:
        """Start of the addresses under which Binder opens a file, empty if it cannot."""
        if not self.repository.startswith(GITHUB):
            return ""
        name = self.repository.removeprefix(GITHUB)
        return f"{BINDER}/v2/gh/{name}/{self.branch}?urlpath=lab/tree/"

    @property
    def colab(self) -> str:
        """Start of the addresses under which Colab opens a file, empty if it cannot."""
        if not self.repository.startswith(GITHUB):
            return ""
        return f"{COLAB}/github/{self.repository.removeprefix(GITHUB)}/blob/{self.branch}/"


def find_address(config: Mapping[str, Any], repository: str | None, site: str | None) -> Address:
    """Return the addresses that are given, or else those of the book's `config`.

    Raises:
        InputError: an address is not of the form that links are made from.
    """
    own = config.get("repository") or {}
    url = (repository or own.get("url") or "").rstrip("/").removesuffix(".git")
    if url and not re.fullmatch(r"https://[\w.-]+(:\d+)?/[\w.-]+/[\w.-]+", url):
        raise InputError(
            f"the repository must have an address such as https://github.com/owner/name, got "
            f"{url!r}; pass one with --repository or as repository.url in _config.yml."
        )
    base = site or (config.get("html") or {}).get("baseurl") or ""
    if base and not re.fullmatch(r"https?://[\w.-]+(:\d+)?(/[\w.~-]+)*/?", base):
        raise InputError(
            f"the site must have an address such as https://owner.github.io/name, got {base!r}; "
            f"pass one with --address or as html.baseurl in _config.yml."
        )
    return Address(url, own.get("branch") or "main", f"{base.rstrip('/')}/" if base else "")


def with_address(config: Mapping[str, Any], address: Address) -> dict[str, Any]:
    """Return the book's `config` with all buttons and links that `address` allows, and no other.

    The theme fails on buttons for a repository that has no address.
    """
    new = dict(config)
    html = new["html"] = dict(config.get("html") or {})
    if address.repository:
        new["repository"] = {"url": address.repository, "branch": address.branch}
        html |= {"use_repository_button": True, "use_issues_button": True}
    if address.binder:
        new["launch_buttons"] = {
            "notebook_interface": "jupyterlab",
            "binderhub_url": BINDER,
            "colab_url": COLAB,
        }
    if address.site:
        html["baseurl"] = address.site
    return new
