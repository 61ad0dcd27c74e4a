"""Small talk over a network, for tests: who asks, who answers, what is seen.

serve PORT...                  answers each TCP and UDP request at these ports with "CLIENT-ADDRESS PORT"
ask PROTOCOL ADDRESS PORT [OWN-PORT]    prints the answer; fails if there is none
echo PORT                      gives back what comes by TCP
hold ADDRESS PORT FILE         talks with an echo by one connection until the file exists; fails if it ends before
spoof KIND LINK ...            sends one Ethernet frame by a link
await LINK SECONDS KIND        succeeds if such a frame comes
"""
import os
import socket
import struct
import sys
import threading
import time

PATIENCE = 2


def plain(address):
    return address[0].removeprefix("::ffff:")


def serve_tcp(listener, port):
    while True:
        connection, client = listener.accept()
        connection.sendall(f"{plain(client)} {port}".encode())
        connection.close()


def serve_udp(listener, port):
    while True:
        _, client = listener.recvfrom(2048)
        listener.sendto(f"{plain(client)} {port}".encode(), client)


def serve(ports):
    for port in map(int, ports):
        tcp = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        threading.Thread(target=serve_tcp, args=(tcp, port)).start()
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            udp = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            udp.bind((any_address, port))
            threading.Thread(target=serve_udp, args=(udp, port)).start()
    print("ready", flush=True)


def echo(port):
    listener = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        while data := connection.recv(2048):
            connection.sendall(data)


def hold(address, port, file):
    with socket.create_connection((address, int(port)), PATIENCE) as client:
        client.settimeout(10 * PATIENCE)
        rounds = 0
        while not os.path.exists(file):
            client.sendall(b"?")
            if client.recv(1) != b"?":
                sys.exit("the connection ended")
            if rounds == 0:
                print("ready", flush=True)
            rounds += 1
            time.sleep(0.01)
    print(f"held {rounds}", flush=True)


def ask(protocol, address, port, own_port="0"):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as client:
        client.settimeout(PATIENCE)
        client.bind(("", int(own_port)))
        client.connect((address, int(port)))
        if protocol == "udp":
            client.send(b"?")
        print(client.recv(2048).decode())


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def udp4(source, target):
    payload = b"spoofed!"
    udp = struct.pack("!HHHH", 5000, 7000, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, source, target)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + udp


def udp6(source, target):
    payload = b"spoofed!"
    udp = struct.pack("!HHHH", 5000, 7000, 8 + len(payload), 0) + payload
    pseudo = source + target + struct.pack("!I3xB", len(udp), 17)
    udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp)) + udp[8:]
    return struct.pack("!IHBB", 6 << 28, len(udp), 17, 64) + source + target + udp


def sctp4(source, target, port):
    """The first message of an association (RFC 9260 3.3.2)."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 1, 65536, 1, 1, 1)
    head = struct.pack("!HHI", 5000, port, 0)
    packet = head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(packet), 1, 0, 64, 132, 0, source, target)
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + packet


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 & -(value & 1))
    return value ^ 0xFFFFFFFF


def advertisement(source, target, about, link_address):
    body = struct.pack("!BBHI", 136, 0, 0, 0x60000001) + about + b"\2\1" + link_address
    pseudo = source + target + struct.pack("!I3xB", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    return struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + source + target + body


def spoof(kind, link, ether_from, ether_to, *words):
    four, six = (lambda text: socket.inet_pton(socket.AF_INET, text)), (lambda text: socket.inet_pton(socket.AF_INET6, text))
    if kind == "arp":
        sender_mac, sender, target = words
        protocol, body = 0x0806, struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + mac(sender_mac) + four(sender) + mac(ether_to) + four(target) + b"spoofed!"
    elif kind == "udp4":
        protocol, body = 0x0800, udp4(*map(four, words))
    elif kind == "sctp4":
        source, target, port = words
        protocol, body = 0x0800, sctp4(four(source), four(target), int(port))
    elif kind == "udp6":
        protocol, body = 0x86DD, udp6(*map(six, words))
    else:
        source, target, about, link_address = words
        protocol, body = 0x86DD, advertisement(six(source), six(target), six(about), mac(link_address))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((link, 0))
        raw.send(mac(ether_to) + mac(ether_from) + struct.pack("!H", protocol) + body)


def is_spoofed(kind, frame):
    """Whether a frame is one that `spoof` sends, not what a kernel says by itself; `sctp4` comes with the port that it is for."""
    if kind.startswith("sctp4:"):
        is_sctp = frame[12:14] == b"\x08\x00" and frame[23] == 132
        return is_sctp and frame[36:38] == struct.pack("!H", int(kind[6:]))
    if kind in ("udp4", "udp6", "arp"):
        return b"spoofed!" in frame
    # A bit that is reserved tells it from an advertisement of the kernel's.
    return frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 136 and frame[61] == 1


def wait(link, seconds, kind):
    """Succeeds if a frame of that kind comes."""
    end = time.monotonic() + float(seconds)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as raw:
        raw.bind((link, 0))
        print("ready", flush=True)
        while (left := end - time.monotonic()) > 0:
            raw.settimeout(left)
            try:
                frame, sender = raw.recvfrom(65535)
            except TimeoutError:
                break
            if sender[2] != socket.PACKET_OUTGOING and is_spoofed(kind, frame):
                return
    sys.exit(1)


{"serve": lambda *ports: serve(ports), "echo": echo, "hold": hold, "ask": ask, "spoof": spoof, "await": wait}[sys.argv[1]](*sys.argv[2:])
