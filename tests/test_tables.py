from minigpt.tables import padded, text_table


def test_columns_are_aligned():
    rows = [("name", "n", "note"), ("a", 12, "x"), ("longer", 3, "")]
    assert text_table(rows) == ["name     n  note", "a       12     x", "longer   3"]
    assert text_table(rows, left=(0, 2)) == ["name     n  note", "a       12  x", "longer   3"]
    assert padded(rows, left=(0, 2))[2] == ["longer", " 3", "    "]


def test_table_without_rows():
    assert text_table([]) == []
