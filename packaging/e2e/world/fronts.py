"""fronts.py ADDRESS=MODE=UPSTREAM ...: name servers that stand before a good one and do one thing wrong, on port 53 of each address."""
import asyncio, socket, struct, sys

TLSA = 52
SERVFAIL, REFUSED, FORMERR, NOTIMP = 2, 5, 1, 4


def question(message):
    """The type of the question and where the question ends."""
    i = 12
    while message[i]:
        i += 1 + message[i]
    return struct.unpack_from(">H", message, i + 1)[0], i + 5


def reply(query, rcode=0, answer=b"", count=0, truncated=False, aa=True):
    _, end = question(query)
    flags = 0x8000 | (struct.unpack_from(">H", query, 2)[0] & 0x0110) | rcode | (0x0200 if truncated else 0) | (0x0400 if aa else 0) | 0x0080
    return query[:2] + struct.pack(">HHHHH", flags, 1, count, 0, 0) + query[12:end] + answer


def record(kind, data, ttl=60, owner=b"\xc0\x0c"):
    return owner + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


async def over_udp(query, upstream):
    loop = asyncio.get_running_loop()
    s = socket.socket(socket.AF_INET6 if ":" in upstream else socket.AF_INET, socket.SOCK_DGRAM)
    s.setblocking(False)
    try:
        s.connect((upstream, 53))
        await loop.sock_sendall(s, query)
        return await asyncio.wait_for(loop.sock_recv(s, 65535), 5)
    finally:
        s.close()


async def over_tcp(query, upstream):
    reader, writer = await asyncio.open_connection(upstream, 53)
    try:
        writer.write(struct.pack(">H", len(query)) + query)
        (size,) = struct.unpack(">H", await reader.readexactly(2))
        return await reader.readexactly(size)
    finally:
        writer.close()


async def answer(mode, query, forward, tcp):
    """The answer of a mode to a query, or None for silence."""
    kind, end = question(query)
    if mode == "silent" or mode == "drop-tlsa" and kind == TLSA:
        return None
    if kind == TLSA and mode.endswith("-tlsa"):
        return reply(query, {"servfail": SERVFAIL, "refused": REFUSED, "formerr": FORMERR, "notimp": NOTIMP}[mode.split("-")[0]])
    if mode == "no-tcp" and kind == TLSA and not tcp:
        return reply(query, truncated=True)
    if mode == "loop":  # every name is an alias of a longer one: x.NAME
        name = query[12:end - 4]
        target = (b"\x01x" + name) if len(name) < 240 else b"\x01x\x00"
        return reply(query, answer=record(5, target), count=1)
    if mode == "huge":  # as many records as a message holds
        rr = record(kind, {1: b"\xc6\x33\x64\x19", 28: b"\x20" * 16, 15: b"\x00\x01\xc0\x0c"}.get(kind, b"\x03\x01\x01" + b"A" * 32))
        count = (65000 if tcp else 1100) // len(rr)
        return reply(query, answer=rr * count, count=count, truncated=not tcp)
    if mode == "liar":  # says that everything exists, is at TEST-NET-1, and was validated
        return reply(query, answer=record(1, b"\xc0\x00\x02\x63"), count=1 if kind == 1 else 0, aa=False)[:3] + b"\xa0" + reply(query, answer=record(1, b"\xc0\x00\x02\x63"), count=1 if kind == 1 else 0)[4:]
    if mode == "garbage":
        return query[:2] + b"\x84\x00" + b"\xff" * 500
    got = await forward(query)
    if mode == "ad":  # a forwarder that claims to have validated
        got = got[:3] + bytes([got[3] | 0x20]) + got[4:]
    return got


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, mode, upstream):
        self.mode, self.upstream = mode, upstream

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, query, peer):
        asyncio.ensure_future(self.serve(query, peer))

    async def serve(self, query, peer):
        try:
            got = await answer(self.mode, query, lambda q: over_udp(q, self.upstream), False)
        except (OSError, asyncio.TimeoutError):
            return
        if self.mode == "endless-tcp":
            got = reply(query, truncated=True)
        if got is not None:
            self.transport.sendto(got, peer)


def stream(mode, upstream):
    async def serve(reader, writer):
        try:
            while True:
                (size,) = struct.unpack(">H", await reader.readexactly(2))
                query = await reader.readexactly(size)
                if mode == "no-tcp":
                    break
                if mode == "endless-tcp":  # a byte now and then, for ever
                    writer.write(b"\xff\xff" + query[:2])
                    while True:
                        writer.write(b"\x00")
                        await writer.drain()
                        await asyncio.sleep(0.05)
                got = await answer(mode, query, lambda q: over_tcp(q, upstream), True)
                if got is None:
                    await asyncio.sleep(3600)
                writer.write(struct.pack(">H", len(got)) + got)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
    return serve


async def main():
    loop = asyncio.get_running_loop()
    for argument in sys.argv[1:]:
        address, mode, upstream = argument.split("=")
        await loop.create_datagram_endpoint(lambda m=mode, u=upstream: Datagrams(m, u), local_addr=(address, 53))
        await asyncio.start_server(stream(mode, upstream), address, 53)
    print("ready", flush=True)
    await asyncio.sleep(10**6)


asyncio.run(main())
