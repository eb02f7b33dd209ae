"""Code points whose category is not the same in all versions of Unicode that supported Pythons, the
oldest and the newest `regex`, and `tokenizers` know: 14.0 (Python 3.11) to 18.0 (regex 2026.11.19).

A letter that is none yet cuts a word elsewhere, so that tokenizers of different ages give other ids
for texts with it. All the same they decode to the same text, which a test holds; ids are compared
on all others.
"""

RANGES = {  # reason -> ranges, first-last or one, in hexadecimal
    "assigned in Unicode 15.0, unknown to Python 3.11": """
        CF3 ECE 10EFD-10EFF 1123F-11241 11B00-11B09 11F00-11F10 11F12-11F3A 11F3E-11F59 1342F 13439-13455 1B132
        1B155 1D2C0-1D2D3 1DF25-1DF2A 1E030-1E06D 1E08F 1E4D0-1E4F9 1F6DC 1F774-1F776 1F77B-1F77F 1F7D9
        1FA75-1FA77 1FA87-1FA88 1FAAD-1FAAF 1FABB-1FABD 1FABF 1FACE-1FACF 1FADA-1FADB 1FAE8 1FAF7-1FAF8 2B739
        31350-323AF
    """,
    "assigned in Unicode 15.1, unknown to Python 3.12": """
        2FFC-2FFF 31EF 2EBF0-2EE5D
    """,
    "assigned in Unicode 16.0, unknown to Python 3.13": """
        897 1B4E-1B4F 1B7F 1C89-1C8A 2427-2429 31E4-31E5 A7CB-A7CD A7DA-A7DC 105C0-105F3 10D40-10D65 10D69-10D85
        10D8E-10D8F 10EC2-10EC4 10EFC 11380-11389 1138B 1138E 11390-113B5 113B7-113C0 113C2 113C5 113C7-113CA
        113CC-113D5 113D7-113D8 113E1-113E2 116D0-116E3 11BC0-11BE1 11BF0-11BF9 11F5A 13460-143FA 16100-16139
        16D40-16D79 18CFF 1CC00-1CCF9 1CD00-1CEB3 1E5D0-1E5FA 1E5FF 1F8B2-1F8BB 1F8C0-1F8C1 1FA89 1FA8F 1FABE
        1FAC6 1FADC 1FADF 1FAE9 1FBCB-1FBEF
    """,
    "assigned after Unicode 16.0, unknown to tokenizers 0.23 and regex 2024.9.11": """
        558 58B-58C 5C8-5C9 88F B53-B54 C5C CDC 1ACF-1AF0 208F 209D-209F 20C1-20C4 2B96 2E60-2E63 A7CE-A7CF A7D2
        A7D4 A7DD A7E2 A7F1 AB6C-AB6D FBC3-FBD2 FD90-FD91 FDC8-FDCE 107BB-107BF 10940-10959 10EC5-10EC7
        10EC9-10EEE 10EF0-10EFB 11B0A 11B60-11B67 11DB0-11DDB 11DE0-11DE9 11DF0-11DF1 1246F 12475-1247F
        12550-12686 16EA0-16EB8 16EBB-16ED3 16FF2-16FF6 187F8-187FF 18CD6-18CDA 18D09-18D20 18D80-18DF2
        18E00-19191 191A0-191D2 1B123-1B128 1B168 1CCFA-1CCFC 1CEBA-1CED0 1CED2-1CED4 1CEDD-1CEFD 1D127-1D128
        1D1EB-1D1FF 1D250-1D281 1D6A6 1DB00-1DB1C 1DF1F-1DF24 1DF2B-1DF81 1DF90-1DF96 1DFCD-1DFFF 1E6C0-1E6DE
        1E6E0-1E6F5 1E6FE-1E6FF 1F1AE 1F6D8-1F6D9 1F777-1F77A 1F7DA-1F7DB 1F7F1-1F7FF 1F8D0-1F8D8 1FA54-1FA57
        1FA8A-1FA8E 1FAC8 1FACC-1FACD 1FADD 1FAEA-1FAEB 1FAEF 1FAF9-1FAFA 1FBFA 2B73A-2B73F 2B81E 2CEA2-2CEAD
        323B0-33479 3D000-3FC3F
    """,
    "Ll in early versions, Lo in late ones": """
        295
    """,
    "Mn in early versions, Mc in late ones": """
        1171E
    """,
}


def code_points():
    """The set of them."""
    found = set()
    for ranges in RANGES.values():
        for text in ranges.split():
            first, _, last = text.partition("-")
            found.update(range(int(first, 16), int(last or first, 16) + 1))
    return found


def some_code_points():
    """All that are assigned or soon will be, and every 97th of the others, private or none."""
    near = [*range(0xD800), *range(0xE000, 0x34000), *range(0xE0000, 0xE0200)]
    return near + sorted(set(range(0x34000, 0x110000, 97)) - set(near))
