"""What a plain name is. In a file of its own, because releases and channel files need no more of the profile's rules."""


def name_ok(text):
    """True for a plain name that is safe in a URL and as a file: 1 to 64 of ``[A-Za-z0-9_.-]``, not beginning with a dot."""
    return isinstance(text, str) and 0 < len(text) <= 64 and text[0] != "." and all(in_name(c) for c in text)


def in_name(c):
    return "a" <= c <= "z" or "A" <= c <= "Z" or "0" <= c <= "9" or c in "_.-"
