"""Access control of the web application: host names, origins, the token, and headers that browsers heed."""

import hmac
import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stavis.app.settings import AppSettings, is_loopback

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(self)",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """ASGI middleware that refuses requests that do not come from the server's own page or a permitted program.

    A page of another site can make a browser send requests to this machine. They carry a foreign `Origin` or
    `Sec-Fetch-Site`, or, if the site's name was rebound to this machine's address, a foreign `Host`.
    """

    def __init__(self, app: ASGIApp, settings: AppSettings) -> None:
        self.app = app
        self.settings = settings
        self.names = {name.lower() for name in (settings.host, socket.gethostname(), *settings.allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        answer = self._answer(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        if answer is None:
            await self.app(scope, receive, send_with_headers)
        elif scope["type"] == "http":
            await answer(scope, receive, send_with_headers)
        else:  # before it is accepted, so that the client gets status 403
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})

    def _answer(self, scope: Scope) -> Response | None:
        """The answer to a request that goes no further; None for one that may pass."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(_name(hosts[0])):
            return _refuse(403, "this server is not known by that host name; see --allow-host")
        origin = headers.get("origin")
        if origin is not None and not _is_of(origin, hosts[0]):
            return _refuse(403, "requests from other sites are refused")
        is_page = scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"] == "/"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not is_page:
            return _refuse(403, "requests from other sites are refused")
        if self.settings.token is None:
            return None
        # Browsers share cookies between the ports of a host.
        cookie = f"stavis_{scope.get('server', ('', 0))[1]}"
        if is_page and (given := parse_qs(scope["query_string"].decode("latin-1")).get("token")):
            if not self._is_token(given[0]):
                return _refuse(401, "wrong token")
            answer = RedirectResponse("/", 303)
            is_secure = scope["scheme"] == "https"
            answer.set_cookie(cookie, given[0], secure=is_secure, httponly=True, samesite="strict")
            return answer
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given_token = bearer.strip() if scheme.lower() == "bearer" else None
        given_token = given_token or cookie_parser(headers.get("cookie", "")).get(cookie, "")
        if not self._is_token(given_token):
            return _refuse(401, "a token is required: open the address that the server printed")
        return None

    def _is_own(self, name: str) -> bool:
        if name in self.names or is_loopback(name):
            return True
        # A rebound name is never an address.
        return not self.settings.is_local and _is_address(name)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self.settings.token or "").encode())


def _is_of(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:  # malformed
        return False


def _name(host: str) -> str:
    """The host name without port and brackets, in lower case; empty if it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _refuse(status: int, error: str, headers: Iterable[tuple[str, str]] = ()) -> JSONResponse:
    return JSONResponse({"error": error}, status, dict(headers))
