"""Decodes MySQL's character sets with Python's codecs.

Most are codecs of Python's own but for a few characters; those few, and the sets that Python has not, stand here.
They were read off MySQL 9.7: CONVERT(_charset x'..' USING utf8mb4) of every byte and every well-formed sequence. A
byte that has no character is "?", as SELECT prints it.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping
from functools import cache

# Single-byte sets: Python's codec, and the characters in which MySQL differs from it.
_SINGLE: Mapping[str, tuple[str, Mapping[int, str]]] = {
    "latin1": ("cp1252", {code: chr(code) for code in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}),
    "latin2": ("iso8859_2", {}),
    "latin5": ("iso8859_9", {}),
    "latin7": ("iso8859_13", {}),
    "cp1250": ("cp1250", {}),
    "cp1251": ("cp1251", {}),
    "cp1256": ("cp1256", dict.fromkeys((0x8A, 0x8F, 0x9A, 0x9F, 0xAA, 0xC0, 0xFF, 0x98), "?")),
    "cp1257": ("cp1257", {}),
    "cp850": ("cp850", {}),
    "cp852": ("cp852", {}),
    "cp866": ("cp866", {0xFC: "ⁿ", 0xFD: "²"}),
    "greek": ("iso8859_7", {0xA1: "ʽ", 0xA2: "ʼ", 0xA4: "?", 0xA5: "?", 0xAA: "?"}),
    "hebrew": ("iso8859_8", {0xAF: "\u203e"}),
    "koi8r": ("koi8_r", {}),
    "koi8u": ("koi8_u", {0x95: "•"}),
    "macce": ("mac_latin2", {}),
    "macroman": ("mac_roman", {}),
    "tis620": ("tis_620", dict.fromkeys((0xA0, *range(0xDB, 0xDF), *range(0xFC, 0x100)), "\ufffd")),
    "hp8": ("hp_roman8", {}),
}
_CONTROLS = "".join(map(chr, range(0x80, 0xA0)))
# The upper halves of the character sets that Python does not have.
_UPPER_HALVES = {
    "armscii8": _CONTROLS
    + "\xa0❁§։)(»«—.՝,-՟…՜՛՞ԱաԲբԳգԴդԵեԶզԷէԸըԹթԺժԻիԼլԽխԾծԿկՀհՁձՂղՃճՄմՅյՆնՇշՈոՉչՊպՋջՌռՍսՎվՏտՐրՑցՒւՓփՔքՕօՖֆ’'",
    "dec8": _CONTROLS
    + "\xa0¡¢£?¥?§¤©ª«????°±²³?µ¶·?¹º»¼½?¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏ?ÑÒÓÔÕÖŒØÙÚÛÜŸ?ßàáâãäåæçèéêëìíîï?ñòóôõöœøùúûüÿ??",
    "geostd8": "€?‚?„…†‡?‰?‹?????‘’“”•–—???›????"
    "\xa0¡¢£¤¥¦§¨©ª«¬\xad®¯°±²³´µ¶·¸¹º»¼½¾¿აბგდევზჱთიკლმნჲოპჟრსტჳუფქღყშჩცძწჭხჴჯჰჵ"
    "???????????????????????№??",
    "keybcs2": "ČüéďäĎŤčěĚĹÍľĺÄÁÉžŽôöÓůÚýÖÜŠĽÝŘťáíóúňŇŮÔšřŕŔ¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀"
    "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤"
    "⌠⌡÷≈°∙·√ⁿ²■\xa0",
    "swe7": "?" * 128,
}
_SWE7 = {
    0x40: "É",
    0x5B: "Ä",
    0x5C: "Ö",
    0x5D: "Å",
    0x5E: "Ü",
    0x60: "é",
    0x7B: "ä",
    0x7C: "ö",
    0x7D: "å",
    0x7E: "ü",
    0x7F: "?",
}

SINGLE_BYTE = frozenset({*_SINGLE, *_UPPER_HALVES})


@cache
def characters_of(charset: str) -> str:
    """The 256 characters of a single-byte set; raises KeyError for another."""
    lower = "".join(map(chr, range(128)))
    if charset in _UPPER_HALVES:
        if charset == "swe7":
            lower = "".join(_SWE7.get(code, chr(code)) for code in range(128))
        return lower + _UPPER_HALVES[charset]
    codec, differing = _SINGLE[charset]
    plain = (bytes([code]).decode(codec, "replace").replace("\ufffd", "?") for code in range(256))
    return "".join(differing.get(code, character) for code, character in enumerate(plain))


# Sets of two and more bytes: Python's codec, and the sequences in which MySQL differs from it.
_MULTI: Mapping[str, tuple[str, Mapping[bytes, str]]] = {
    "gbk": ("gbk", {}),
    "gb2312": ("gb2312", {}),
    "gb18030": ("gb18030", {b"\xa8\xbc": "ḿ"}),
    "euckr": ("cp949", {}),
    "cp932": ("cp932", {}),
    "sjis": ("shift_jis", {b"\x81\x5f": "\\"}),
    "big5": (
        "big5",
        dict.fromkeys(
            (b"\xa1\x5a", b"\xa1\xc3", b"\xa1\xc5", b"\xa1\xfe", b"\xa2\x40", b"\xa2\xcc", b"\xa2\xce"), "\ufffd"
        )
        | {bytes([0xF9, 0xD6 + k]): character for k, character in enumerate("碁銹裏墻恒粧嫺")},
    ),
    "ucs2": ("utf_16_be", {}),
    "utf16": ("utf_16_be", {}),
    "utf16le": ("utf_16_le", {}),
    "utf32": ("utf_32_be", {}),
}

# Sets built on JIS X 0208 and 0212, "EUC": what lies beyond Python's codec.
_IBM_EXTENSIONS = (  # escaped where an editor might normalise the character
    "ⅰⅱⅲⅳⅴⅵⅶⅷⅸⅹⅠⅡⅢⅣⅤⅥⅦⅧⅨⅩ＇＂㈱№℡炻仼僴凬匇匤\ufa0e咊坙\ufa0f\ufa10增寬峵嵓\ufa11德悅愠敎昻晥\ufa12\uf929栁\ufa13\ufa14橫櫢淸淲瀨"
    "\ufa15\ufa16甁皂皞\ufa17礰\ufa18\ufa19\ufa1a\ufa1b竧\ufa1c\ufa1d綠緖\ufa1e荢\ufa1f薰\ufa20\ufa21蠇\ufa22譿賴赶"
    "\ufa23\ufa24\ufa25郞\ufa26鄕\ufa27\ufa28閒\uf9dc\ufa29霻靍靑\ufa2a\ufa2b\ufa2c馞髙魲\ufa2d黑"
)
_ROW = range(0xA1, 0xFF)


def _private_rows(prefix: bytes, first: int) -> dict[bytes, str]:
    """Rows 0xf5 to 0xfe are for user-defined characters, which Unicode maps to the area from U+E000."""
    cells = (bytes([row, cell]) for row in range(0xF5, 0xFF) for cell in _ROW)
    return {prefix + cell: chr(first + k) for k, cell in enumerate(cells)}


@cache
def _euc(charset: str) -> Mapping[bytes, str]:
    """What differs from Python's euc_jp."""
    differing = _private_rows(b"", 0xE000) | _private_rows(b"\x8f", 0xE000 + 940) | {b"\x8e\xa0": "??"}
    if charset == "ujis":
        return differing | {b"\xa1\xc0": "\\"}
    for cell in _ROW:  # where Microsoft's JIS X 0208 has other characters, and its row 13
        for row in (0xA1, 0xA2, 0xAD):
            sequence = bytes([row, cell])
            character = _shift_jis_of(sequence).decode("cp932", "replace")
            if len(character) == 1 and character != "\ufffd":
                differing[sequence] = character
    pointers = [
        *(b"\x8f\xf3" + bytes([cell]) for cell in range(0xF3, 0xFF)),
        *(b"\x8f\xf4" + bytes([cell]) for cell in _ROW),
    ]
    extensions = dict(zip(pointers, _IBM_EXTENSIONS, strict=True))
    return differing | extensions | {b"\x8f\xa2\xb7": "～", b"\x8f\xa2\xc3": "￤", b"\xa1\xc0": "＼"}


def _shift_jis_of(sequence: bytes) -> bytes:
    """The same cell of JIS X 0208 as Shift JIS writes it."""
    row, cell = sequence[0] - 0xA1, sequence[1] - 0xA1
    second = (cell + (0x40 if cell < 63 else 0x41)) if row % 2 == 0 else cell + 0x9F
    return bytes([(0x81 if row < 62 else 0xC1) + row // 2, second])


def _sequence_size(charset: str, data: bytes, at: int) -> int:
    """Bytes of the character at `at`."""
    first = data[at]
    if first < 0x80:
        return 1
    if charset in ("ujis", "eucjpms"):
        if first == 0x8F:
            return 3
        return 2 if first == 0x8E or first >= 0xA1 else 1
    if charset in ("sjis", "cp932"):
        return 1 if 0xA1 <= first <= 0xDF else 2
    if charset == "gb18030" and at + 1 < len(data) and 0x30 <= data[at + 1] <= 0x39:
        return 4
    return 2


def multi_byte_decoder(charset: str) -> Callable[[bytes], str]:
    """Decodes one value; raises KeyError for an unknown character set, ValueError for truncated bytes."""
    if charset in ("ujis", "eucjpms"):
        codec, differing = codecs.lookup("euc_jp"), _euc(charset)
    else:
        name, differing = _MULTI[charset]
        codec = codecs.lookup(name)
        if charset in ("ucs2", "utf16", "utf16le", "utf32"):
            return lambda data: codec.decode(data)[0]

    def decode(data: bytes) -> str:
        if data.isascii():
            return data.decode("ascii")
        parts: list[str] = []
        at = 0
        while at < len(data):
            size = _sequence_size(charset, data, at)
            sequence = data[at : at + size]
            at += size
            if len(sequence) < size:
                raise ValueError(f"{charset} text ends inside a character")
            parts.append(differing.get(sequence) or _character(codec, sequence))
        return "".join(parts)

    return decode


def _character(codec: codecs.CodecInfo, sequence: bytes) -> str:
    try:
        return codec.decode(sequence)[0]
    except UnicodeDecodeError:
        return "?"


MULTI_BYTE = frozenset({*_MULTI, "ujis", "eucjpms"})
