"""Images from the web, one at a time and with limits: an address in a list may lead anywhere."""

import http.client
import time
import urllib.error
import urllib.request

from ..common.errors import UserError, file_error

TIMEOUT_SECONDS = 20.0  # without a sign of the server
MOST_SECONDS = 120.0  # for all of an image
MOST_BYTES = 100 * 2**20
_CHUNK = 2**16
_SCHEMES = ('http', 'https')


class _OnlyWeb(urllib.request.HTTPRedirectHandler):
    """Follows redirections that stay on the web, not those to ftp."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        """See urllib; what it returns is opened."""
        if not is_address(newurl):
            raise urllib.error.URLError(f'it leads to {newurl}')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def is_address(text: str) -> bool:
    """Whether a text is an http or https address."""
    return text.partition('://')[0].lower() in _SCHEMES and '://' in text


def fetch(address: str, *, timeout: float = TIMEOUT_SECONDS, most_seconds: float = MOST_SECONDS,
          most_bytes: int = MOST_BYTES) -> bytes:
    """Returns what is at an http or https address.

    Args:
      address: as a browser takes it.
      timeout: seconds to wait for the server each time.
      most_seconds: for all of it.
      most_bytes: of it; more is not read.

    Raises:
      UserError: it cannot be had, or is too much, in one line that begins with the address.
    """
    if not is_address(address):
        raise file_error(address, 'is no http or https address')
    began = time.monotonic()
    try:
        opener = urllib.request.build_opener(_OnlyWeb)
        request = urllib.request.Request(address, headers={'User-Agent': 'practicum'})  # some refuse urllib's own
        with opener.open(request, timeout=timeout) as opened:
            content = bytearray()
            while part := opened.read1(_CHUNK):
                content += part
                if len(content) > most_bytes:
                    raise file_error(address, f'is larger than {most_bytes / 2**20:,.0f} MiB')
                if time.monotonic() - began > most_seconds:
                    raise file_error(address, f'took longer than {most_seconds:g} s')
            length = opened.headers.get('Content-Length', '')
    except UserError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        raise file_error(address, f'the server answers {error.code} {error.reason}') from None
    except TimeoutError:
        raise file_error(address, f'no answer within {timeout:g} s') from None
    except urllib.error.URLError as error:
        why = f'no answer within {timeout:g} s' if isinstance(error.reason, TimeoutError) else error.reason
        raise file_error(address, f'cannot be fetched: {getattr(why, "strerror", None) or why}') from None
    # What else a malformed address or answer trips urllib into: a bad port, a name that is no domain, a broken header.
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise file_error(address, f'cannot be fetched: {error or type(error).__name__}') from None
    if length.isdecimal() and len(content) < int(length):
        raise file_error(address, f'was cut off after {len(content):,} of {int(length):,} bytes')
    return bytes(content)
