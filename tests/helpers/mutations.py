"""What happens to bytes on their way: bits flip, ends are lost, parts are doubled or come from elsewhere."""

import random
import re
from collections.abc import Callable

Mutation = Callable[[bytearray, random.Random], None]


def flip_bits(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        content[_position(content, rng)] ^= 1 << rng.randrange(8)


def change_bytes(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 8))):
        content[_position(content, rng)] = rng.choice((0, 1, 127, 128, 255, *b'0"{}[],-\n', rng.randrange(256)))


def cut_off(content: bytearray, rng: random.Random) -> None:
    del content[rng.choice((_position(content, rng), rng.randrange(len(content)), len(content) - 1, 0)) :]


def drop_part(content: bytearray, rng: random.Random) -> None:
    begin = _position(content, rng)
    del content[begin : begin + _length(content, rng)]


def insert_bytes(content: bytearray, rng: random.Random) -> None:
    begin = _position(content, rng)
    content[begin:begin] = rng.randbytes(_length(content, rng))


def zero_range(content: bytearray, rng: random.Random) -> None:
    begin = _position(content, rng)
    part = len(content[begin : begin + _length(content, rng)])
    content[begin : begin + part] = bytes([rng.choice((0, 255))]) * part


def splice(content: bytearray, rng: random.Random) -> None:
    begin, source, length = _position(content, rng), _position(content, rng), _length(content, rng)
    content[begin : begin + length] = content[source : source + length]


def swap_ends(content: bytearray, rng: random.Random) -> None:
    middle = rng.randrange(len(content))
    content[:] = content[middle:] + content[:middle]


def change_number(content: bytearray, rng: random.Random) -> None:
    """Decimal digits, where there are some: what a header says of sizes, a text of labels."""
    numbers = list(re.finditer(rb"\d+", bytes(content[:20_000])))
    if not numbers:
        return flip_bits(content, rng)
    number = rng.choice(numbers)
    other = rng.choice((b"0", b"1", b"-1", b"2.5", b"1e9", b"1000000000000", b"NaN", b"null", b'"x"', b"[]", b"{}"))
    content[number.start() : number.end()] = other
    return None


def change_word(content: bytearray, rng: random.Random) -> None:
    """A word becomes another of the same file, or none: keys, names and types in texts and headers."""
    words = list(re.finditer(rb"[A-Za-z_]{2,}", bytes(content[:20_000])))
    if not words:
        return flip_bits(content, rng)
    word = rng.choice(words)
    content[word.start() : word.end()] = rng.choice((rng.choice(words)[0], b"", b"null", b"\xe9", b"x" * 300))
    return None


MUTATIONS: tuple[Mutation, ...] = (
    *(flip_bits, change_bytes, cut_off, drop_part, insert_bytes, zero_range, splice, swap_ends),
    *(change_number, change_word),
)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Other bytes, by one or two of the mutations."""
    changed = bytearray(content)
    while changed == content:
        for _ in range(rng.choice((1, 1, 2))):
            if changed:
                rng.choice(MUTATIONS)(changed, rng)
    return bytes(changed)


def _position(content: bytearray, rng: random.Random) -> int:
    """Anywhere, more often near the beginning and the end, where headers and directories are."""
    size = len(content)
    if not size:
        return 0
    near = min(size, rng.choice((16, 128, 1024)))
    return rng.choice((rng.randrange(size), rng.randrange(near), size - 1 - rng.randrange(near)))


def _length(content: bytearray, rng: random.Random) -> int:
    return rng.choice((1, 4, 8, 64, 1 + rng.randrange(len(content) + 1)))
