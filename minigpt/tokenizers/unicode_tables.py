"""Where `tokenizers` stands in the history of Unicode, so that a text has the same ids everywhere.

BERT's rules ask what a character is: a mark, punctuation, a control. The package `regex` says it,
by Unicode 18 as of 2026.11.19. `tokenizers` 0.23 has three answers at once: categories of Unicode 8
(2015), decompositions of Unicode 12, lower case of Unicode 17; Python has those of its own version.
A vocabulary was made with what `tokenizers` does, therefore this is done here, and what the newest
Unicode says otherwise is listed: code points by range, in hexadecimal.
"""

# Marks, punctuation and format characters (Mn, P, Cf) by Unicode 18 that are none in Unicode 8: 690
# code points, nearly all assigned since. They are parts of words like letters.
NEWER = """
5C8-5C9 61D 7FD 890-891 897-89F 8CA-8E2 9FD-9FE A76 AFA-AFF B53-B55 C04 C3C C77 C84 D00
D3B-D3C D81 EBA ECE 180F 1885-1886 1ABF-1AF0 1B4E-1B4F 1B7D-1B7F 1DF6-1DFB 2E43-2E4F
2E52-2E5D 2E60-2E63 A82C A8C5 A8FF A9BD 10D24-10D27 10D69-10D6E 10EAB-10EAD 10ECB-10ED0
10EF0-10EFF 10F46-10F50 10F55-10F59 10F82-10F89 11070 11073-11074 110C2 110CD 111C9 111CF
1123E 11241 1133B 113BB-113C0 113CE 113D0 113D2 113D4-113D5 113D7-113D8 113E1-113E2
11438-1143F 11442-11444 11446 1144B-1144F 1145A-1145B 1145D-1145E 11660-1166C 116B9
1182F-11837 11839-1183B 1193B-1193C 1193E 11943-11946 119D4-119D7 119DA-119DB 119E0 119E2
11A01-11A0A 11A33-11A38 11A3B-11A47 11A51-11A56 11A59-11A5B 11A8A-11A96 11A98-11A9C
11A9E-11AA2 11B00-11B09 11B60 11B62-11B64 11B66 11BE1 11C30-11C36 11C38-11C3D 11C3F
11C41-11C45 11C70-11C71 11C92-11CA7 11CAA-11CB0 11CB2-11CB3 11CB5-11CB6 11D31-11D36 11D3A
11D3C-11D3D 11D3F-11D45 11D47 11D90-11D91 11D95 11D97 11DF0 11EF3-11EF4 11EF7-11EF8
11F00-11F01 11F36-11F3A 11F40 11F42-11F4F 11F5A 11FFF 12FF1-12FF2 13430-13440 13447-13455
1611E-16129 1612D-1612F 16D6D-16D6F 16E97-16E9A 16F4F 16FE2 16FE4 1CF00-1CF2D 1CF30-1CF46
1D127-1D128 1D25B-1D25C 1E000-1E006 1E008-1E018 1E01B-1E021 1E023-1E024 1E026-1E02A 1E08F
1E130-1E136 1E2AE 1E2EC-1E2EF 1E4EC-1E4EF 1E5EE-1E5EF 1E5FF 1E6E3 1E6E6 1E6EE-1E6EF 1E6F5
1E944-1E94A 1E95E-1E95F
"""

# What Unicode 8 called punctuation, or a mark, and Unicode 18 no longer does.
PUNCTUATION_ONCE = "166D 111C9"
MARKS_ONCE = "1734 1171E"

# Marks younger than the decompositions of `tokenizers`, which keep their place among other marks,
# and characters that are taken apart by a newer Unicode alone (11938, and eight scripts of 16).
NEVER_TAKEN_APART = """
5C8-5C9 7FD 897-89F 8CA-8D3 9FE C3C D3B-D3C EBA 1715 1ABF-1AF0 1DF6-1DFA A82C 105C9 105E4
10D24-10D27 10D69-10D6D 10EAB-10EAC 10ECB-10ECF 10EF0-10EFB 10EFD-10EFF 10F46-10F50
10F82-10F85 11070 1133B 11382-113CB 113CE-113D0 1145E 11839-1183A 11935 11938 1193D-1193E 11943
119E0 11A34 11A47 11A99 11D42 11D44-11D45 11D97 11F41-11F42 1611E-1612F 16D67-16D6A
16FF0-16FF1 1D127-1D128 1D250-1D252 1D25B-1D25C 1D25F 1D280-1D281 1E08F 1E130-1E136 1E2AE
1E2EC-1E2EF 1E4EC-1E4EF 1E5EE-1E5EF 1E6E3 1E6E6 1E6EE-1E6EF 1E6F5
"""

# Characters that have a compatible form by a newer Unicode than that of `tokenizers` alone.
NEVER_COMPATIBLE = """
32FF A7F1-A7F4 AB69 10781-10785 10787-107B0 107B2-107BA 1CCD6-1CCF9 1E030-1E06D 1F16C
1FBF0-1FBF9
"""

# Marks that begin a grapheme of their own in `tokenizers`, whose Unicode (17) doesn't know them;
# and marks of that one, which Unicode 16, and `regex` of 2024, doesn't know.
NEVER_JOINING = """
5C8-5C9 B53-B54 1ADE-1ADF 1AEC-1AF0 10ECB-10ECF 10EF0-10EF9 11DF0 1D127-1D128 1D250-1D252
1D25B-1D25C 1D25F 1D280-1D281
"""
JOINING_LATE = "1ACF-1ADD 1AE0-1AEB 10EFA-10EFB 11B60-11B67 1E6E3 1E6E6 1E6EE-1E6EF 1E6F5"

LETTERS_NEVER_TAKEN_APART = "105C9 105E4 11382-113CB 16D67-16D6A"  # of these, which are no marks

# Lower case of letters that Python 3.11 doesn't know (Unicode 14).
LOWER = {0x1C89: 0x1C8A, 0xA7CB: 0x264, 0xA7CC: 0xA7CD, 0xA7CE: 0xA7CF, 0xA7D2: 0xA7D3, 0xA7D4: 0xA7D5, 0xA7DA: 0xA7DB}
LOWER |= {0xA7DC: 0x19B} | {c: c + 0x20 for c in range(0x10D50, 0x10D66)}
LOWER |= {c: c + 0x1B for c in range(0x16EA0, 0x16EB9)}

# White space by its property in Unicode, the same since Unicode 6.3
WHITE_SPACE = "9-D 20 85 A0 1680 2000-200A 2028-2029 202F 205F 3000"

# Blocks of Chinese characters, as BERT lists them
CHINESE = "3400-4DBF 4E00-9FFF F900-FAFF 20000-2A6DF 2A700-2B81F 2B920-2CEAF 2F800-2FA1F"


def code_points(ranges):
    """Ranges of code points -> all of them, a list.

    >>> code_points("9-B 20")
    [9, 10, 11, 32]
    """
    found = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        found += range(int(first, 16), int(last or first, 16) + 1)
    return found


def in_class(ranges):
    r"""Ranges of code points as they stand between the [ ] of a pattern.

    >>> in_class("A 4E00-9FFF")
    '\\U0000000A\\U00004E00-\\U00009FFF'
    """
    return "".join("-".join(f"\\U{int(end, 16):08X}" for end in part.split("-")) for part in ranges.split())
