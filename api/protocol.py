"""HTTP/1.1 as the server parses it, with a bound on a request's head.

The parser keeps an unfinished head in memory, however long it becomes, before anything of ours is asked, and
before a key is.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Bytes of a request line and its headers that may arrive without an end. Several times what proxies let pass.
MOST_HEAD_BYTES = 64 * 1024


class BoundedProtocol(HttpToolsProtocol):
    """Answers 400 and hangs up when a head does not end."""

    _in_head = False
    _head_bytes = 0

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Its head ended."""
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Parse what came; then look whether the head still has no end."""
        began = self._in_head
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        # The first piece may begin with the end of a body.
        self._head_bytes += len(data) if began else 0
        if self._head_bytes > MOST_HEAD_BYTES:
            self._in_head = False
            self.send_400_response("The head of the request is too large.")
