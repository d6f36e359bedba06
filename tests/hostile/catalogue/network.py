"""Out of the sandbox over a network. There is none: this is proven by looking, and by aiming only at listeners
that the test itself opened on addresses of this host."""

from tests.hostile.entries import Program, Result, Story, probe, refused
from tests.hostile.stage import Stage

UNREACHABLE = {
    "ENETUNREACH",
    "EHOSTUNREACH",
    "ECONNREFUSED",
    "EADDRNOTAVAIL",
    "EPERM",
    "EACCES",
    "ENETDOWN",
    "EINVAL",
}

AIM = """
targets = [t.rsplit(':', 1) for t in sys.argv[1:]]
for host, port in targets:
    def tcp():
        with socket.create_connection((host, int(port)), timeout=3): return 'connected'
    def udp():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect((host, int(port)))
            s.send(b'canary')
            s.settimeout(0.2)
            s.recv(1)
    def mapped():
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as s:
            s.settimeout(3)
            s.connect(('::ffff:' + host, int(port)))
    def from_elsewhere():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
            s.settimeout(3)
            s.bind((host, 0))
            s.connect((host, int(port)))
    for way in (tcp, udp, mapped, from_elsewhere):
        attempt(f'{way.__name__} {host}', way)
"""


def aims_at_the_host(stage: Stage) -> None:
    """Listeners on the host's loopback and on the bridge's gateway hear nothing, and neither does the API."""
    targets = [f"{host}:{port}" for host, port in stage.canaries.listeners.targets]
    targets += [f"{host}:{stage.server.url.rpartition(':')[2]}" for host, _ in stage.canaries.listeners.targets]
    assert len(targets) >= 2, "no listener could be opened"
    result = stage.run(probe(AIM), args=targets)
    assert result.job["verdict"] == "ok", result.err
    wrong = {way: got for way, got in result.found.items() if got not in UNREACHABLE}
    assert wrong == {}, wrong


def no_network_can_be_asked_for(stage: Stage) -> None:
    """There is no allow-list to trick: no request can ask for a network."""
    for field in ("network", "network_mode", "egress", "allow", "dns", "proxy"):
        answer = stage.mallory.post("/v1/jobs", json={"code": "print(1)", field: "host"})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == field


def _only_loopback(result: Result) -> None:
    found = result.found
    assert found["interfaces"] == ["lo"], found
    assert found["routes"] == [], found
    assert set(found["routes of IPv6"]) <= {"lo"}, found
    assert found["neighbours"] == [], found


def _no_resolver(result: Result) -> None:
    found = result.found
    for name in ("name", "address of a name"):
        assert found[name].startswith("[Errno -"), found  # the resolver's own errors
    assert found["took"] < 15, found


def _refused_kinds(result: Result) -> None:
    found = result.found
    assert len(found) > 40
    allowed = {"EPERM", "EACCES", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "EINVAL"}
    assert set(found.values()) <= allowed, {k: v for k, v in found.items() if v not in allowed}


def _loopback_works(result: Result) -> None:
    assert result.found == {"tcp": "heard", "udp": "heard"}, result.found


ENTRIES = [
    Program(
        "only_loopback",
        probe(
            """
def lines(path):
    try: return open(path).read().splitlines()
    except FileNotFoundError: return []
found['interfaces'] = [line.partition(':')[0].strip() for line in lines('/proc/net/dev')[2:]]
found['routes'] = lines('/proc/net/route')[1:]
found['routes of IPv6'] = [line.split()[-1] for line in lines('/proc/net/ipv6_route')]
found['neighbours'] = lines('/proc/net/arp')[1:]
"""
        ),
        look=_only_loopback,
    ),
    Story("aims_at_the_host", aims_at_the_host, fast=True),
    Program(
        "asks_for_a_name",
        probe(
            """
import time
began = time.monotonic()
attempt('name', lambda: socket.getaddrinfo('secret.canary.invalid', 80))
attempt('address of a name', lambda: socket.gethostbyname('canary.invalid'))
found['took'] = time.monotonic() - began
"""
        ),
        look=_no_resolver,
    ),
    Program(
        "raw_and_strange_sockets",
        probe(
            """
for family in range(46):
    kinds = {0: 'any'}
    if family in (1, 2, 10):
        kinds = {}
    for kind, name in ((3, 'raw'), (10, 'packet'), (4, 'rdm'), (6, 'dccp')):
        if family != 1: kinds[kind] = name
    for kind, name in kinds.items():
        attempt(f'{family} {name}', lambda: socket.socket(family, kind or 1).close())
for protocol in (1, 58): attempt(f'ping {protocol}', lambda: socket.socket(2 if protocol == 1 else 10, 2, protocol).sendto(b'', ('127.0.0.1' if protocol == 1 else '::1', 0)))
"""
        ),
        look=_refused_kinds,
    ),
    Program(
        "changes_its_network",
        probe(
            """
import fcntl, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
up = struct.pack('16sh', b'lo', 0x41)
attempt('flags', lambda: fcntl.ioctl(s, 0x8914, up))
attempt('address', lambda: fcntl.ioctl(s, 0x8916, struct.pack('16sHH4s8s', b'lo', 2, 0, bytes((172, 17, 0, 9)), b'')))
attempt('route', lambda: fcntl.ioctl(s, 0x890B, bytes(120)))
def tun():
    fd = os.open('/dev/net/tun', os.O_RDWR)  # gVisor has one
    return fcntl.ioctl(fd, 0x400454CA, struct.pack('16sH22s', b'x', 0x1001, b''))
attempt('tun', tun)
attempt('forward', lambda: open('/proc/sys/net/ipv4/ip_forward', 'w').write('1'))
"""
        ),
        look=refused("EPERM", "EACCES", "ENOENT", "EROFS", "EINVAL", "ENODEV", "ENOTTY", "ENXIO"),
    ),
    Program(
        "talks_to_itself",
        probe(
            """
def tcp():
    server = socket.create_server(('127.0.0.1', 0))
    with socket.create_connection(server.getsockname()) as client:
        peer, _ = server.accept()
        client.sendall(b'x')
        return 'heard' if peer.recv(1) == b'x' else 'lost'
def udp():
    a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    a.bind(('127.0.0.1', 0))
    b.sendto(b'x', a.getsockname())
    return 'heard' if a.recv(1) == b'x' else 'lost'
attempt('tcp', tcp)
attempt('udp', udp)
"""
        ),
        look=_loopback_works,
    ),
    Story("no_network_can_be_asked_for", no_network_can_be_asked_for),
]
