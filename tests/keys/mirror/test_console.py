"""What is made of the tab of keys, without a spreadsheet."""

import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.records import ApiKey
from keys.digest import digest
from keys.mint import mask, mint_id, mint_secret
from keys.mirror import console, layout
from keys.mirror.console import Broken, Edit, Known, Mark, Reading, Seen
from keys.tabs import key_cells

HEADER: list[object] = [column.header for column in layout.LISTED_COLUMNS]
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
TIERS = ("default", "gold")


def make(count: int = 1, **changes: object) -> list[Known]:
    keys = []
    for number in range(count):
        secret = mint_secret()
        key = ApiKey(
            id=mint_id(),
            email=f"user{number}@example.com",
            name=f"laptop {number}",
            tier="default",
            masked=mask(secret),
            created_at=NOW,
            notes="",
        )
        keys.append(Known(replace(key, **changes), digest(secret).hex()))  # type: ignore[arg-type]
    return keys


def rows(keys: list[Known]) -> list[list[object]]:
    return [[*key_cells(item.key), item.digest] for item in keys]


def tab(keys: list[Known]) -> list[list[object]]:
    return [list(HEADER), *rows(keys)]


def at(header: str) -> int:
    return HEADER.index(header)


def seen_of(keys: list[Known]) -> dict[str, Seen]:
    return console.read(tab(keys), keys, {}).seen


def read(values: list[list[object]], keys: list[Known], **options: object) -> Reading:
    options = {"tiers": TIERS, **options}
    seen = options.pop("seen", None) or seen_of(keys)
    return console.read(values, keys, seen, **options)  # type: ignore[arg-type]


def edited(keys: list[Known], header: str, cell: object) -> Reading:
    values = tab(keys)
    values[1][at(header)] = cell
    return read(values, keys)


@pytest.mark.parametrize(
    ("cell", "mark"),
    [
        (None, Mark.BLANK),
        ("", Mark.BLANK),
        ("  ", Mark.BLANK),
        (False, Mark.ACTIVE),
        ("FALSE", Mark.ACTIVE),
        ("no", Mark.ACTIVE),
        (0, Mark.ACTIVE),
        (0.0, Mark.ACTIVE),
        (" No ", Mark.ACTIVE),
        (True, Mark.REVOKED),
        ("TRUE", Mark.REVOKED),
        ("x", Mark.REVOKED),
        (1, Mark.REVOKED),
        ("yes", Mark.REVOKED),
        (46_351.5, Mark.UNCLEAR),
        ("not sure", Mark.UNCLEAR),
        ("falsch", Mark.UNCLEAR),
        ("#REF!", Mark.UNCLEAR),
    ],
)
def test_what_stands_under_revoked(cell: object, mark: Mark) -> None:
    assert console.revoked_mark(cell) is mark


@given(st.one_of(st.text(), st.integers(), st.floats(allow_nan=False), st.booleans(), st.none()))
def test_only_an_empty_cell_false_no_and_zero_leave_a_key_active(cell: object) -> None:
    keys = make()
    active = console.text(cell).casefold() in ("", "false", "no", "0")
    assert [edit.field for edit in edited(keys, "Revoked", cell).edits] == (
        [] if active else ["revoked"]
    )


def test_a_tab_as_it_was_written_changes_nothing() -> None:
    keys = make(30)
    reading = read(tab(keys), keys, seen={})
    assert (reading.edits, reading.fixes, reading.problems, reading.pasted) == ([], [], [], [])
    assert len(reading.seen) == 30


@pytest.mark.parametrize(
    ("header", "cell", "field", "new"),
    [
        ("Key Name", "server", "name", "server"),
        ("Key Name", "=1+1", "name", "=1+1"),
        ("Key Name", "\t@home\r", "name", "@home"),
        ("Key Name", 42, "name", "42"),
        ("Key Name", "", "name", ""),
        ("Notes", "two\nlines", "notes", "two\nlines"),
        ("Notes", True, "notes", "TRUE"),
        ("Tier", "gold", "tier", "gold"),
        ("Tier", " Gold ", "tier", "gold"),
        ("Revoked", True, "revoked", "yes"),
    ],
)
def test_an_edited_cell_is_a_change_of_its_key(
    header: str, cell: object, field: str, new: str
) -> None:
    keys = make()
    (edit,) = edited(keys, header, cell).edits
    assert (edit.key_id, edit.field, edit.new) == (keys[0].key.id, field, new)


@pytest.mark.parametrize(
    ("header", "cell", "words"),
    [
        ("Tier", "platinum", "there is no tier 'platinum' (there are default, gold)"),
        ("Key Name", "x" * 101, "the name is longer than 100 characters"),
        ("Key Name", "a\nb", "the name has a control character"),
        ("Key Name", "#REF!", "Key Name shows an error of a formula"),
        ("Notes", "x" * 5001, "the notes are longer than 5000 characters"),
        ("User Email", "eve@example.com", "cannot be changed here; it is user0@example.com"),
    ],
)
def test_what_cannot_be_is_a_problem_and_stays_as_it_was(
    header: str, cell: object, words: str
) -> None:
    keys = make()
    reading = edited(keys, header, cell)
    assert reading.edits == []
    (problem,) = reading.problems
    assert words in problem
    assert problem.startswith("row 2 (")


def test_a_change_that_the_tab_does_not_show_yet_is_not_undone() -> None:
    before = make()
    now = [Known(replace(before[0].key, revoked_at=NOW), before[0].digest)]
    reading = read(tab(before), now, seen=seen_of(before))
    assert reading.edits == []
    (fix,) = reading.fixes
    assert fix.cells == {at("Revoked"): True, at("Key ID"): before[0].key.id}


def test_a_revocation_is_taken_back_by_a_second_look_and_not_by_an_empty_cell() -> None:
    keys = make(revoked_at=NOW)
    values = tab(keys)
    values[1][at("Revoked")] = False
    first = read(values, keys)
    assert (first.edits, first.fixes) == ([], [])
    assert read(values, keys, seen=first.seen).edits == [
        Edit(keys[0].key.id, "revoked", "yes", "no")
    ]
    values[1][at("Revoked")] = ""
    second = read(values, keys, seen=first.seen)
    assert second.edits == []
    assert second.fixes[0].cells[at("Revoked")] is True


def test_a_row_that_is_gone_twice_revokes_its_key() -> None:
    keys = make(10)
    first = read(tab(keys[1:]), keys)
    assert (first.edits, first.problems) == ([], [])
    second = read(tab(keys[1:]), keys, seen=first.seen)
    assert [(edit.key_id, edit.new) for edit in second.edits] == [(keys[0].key.id, "yes")]
    # And a row that is back in time is as if nothing had been.
    assert read(tab(keys), keys, seen=first.seen).edits == []


def test_rows_that_were_never_written_are_not_missed() -> None:
    keys = [Known(item.key, item.digest, listed=False) for item in make(2)]
    reading = read(tab([]), keys, seen=seen_of(keys))
    assert (reading.edits, any(seen.missing for seen in reading.seen.values())) == ([], False)


@pytest.mark.parametrize(
    ("gone", "of", "held"), [(3, 4, False), (4, 5, True), (20, 100, False), (21, 100, True)]
)
def test_many_rows_that_are_gone_at_once_revoke_nothing(gone: int, of: int, held: bool) -> None:
    keys = make(of)
    seen = seen_of(keys)
    for _ in range(3):
        reading = read(tab(keys[gone:]), keys, seen=seen)
        seen = reading.seen
        if not held:
            break
        assert reading.edits == []
        assert any("rows are gone at once" in text for text in reading.problems)
    assert reading.held is held
    assert len(seen) == of


def test_a_revocation_counts_while_nothing_else_is_believed() -> None:
    keys = make(10)
    values = tab(keys[5:])
    values[1][at("Revoked")] = True
    values[2][at("Key Name")] = "other"
    assert [edit.field for edit in read(values, keys).edits] == ["revoked"]


@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_order_and_place_mean_nothing(chance: random.Random, blank: int) -> None:
    keys = make(6)
    order = list(range(len(HEADER)))
    chance.shuffle(order)
    lines = rows(keys)
    lines[2][at("Revoked")] = True
    lines[3][at("Key Name")] = "renamed"
    chance.shuffle(lines)
    values = [[line[index] for index in order] for line in [list(HEADER), *lines]]
    place = chance.randrange(len(HEADER))
    for line in values:
        line.insert(place, "" if line is not values[0] else "Remarks")
    for _ in range(blank):
        values.insert(chance.randrange(len(values) + 1), [])
    reading = read(values, keys)
    assert {(edit.key_id, edit.field) for edit in reading.edits} == {
        (keys[2].key.id, "revoked"),
        (keys[3].key.id, "name"),
    }
    assert (reading.fixes, reading.problems) == ([], [])


@pytest.mark.parametrize(
    "header", ["Tier", "Key Name", "Notes", "Revoked", "API Key", "User Email", "Key ID"]
)
@pytest.mark.parametrize("how", ["renamed", "emptied", "doubled"])
def test_a_column_without_its_header_says_nothing_and_the_others_go_on(
    header: str, how: str
) -> None:
    keys = make(10)
    values = tab(keys)
    other = "Notes" if header != "Notes" else "Key Name"
    values[1][at(other)] = "edited"
    if header not in ("API Key", "User Email", "Key ID"):
        for line in values[2:]:
            line[at(header)] = True
    if how == "doubled":
        for line in values:
            line.append(line[at(header)])
    else:
        values[0][at(header)] = "" if how == "emptied" else "Other"
    seen = seen_of(keys)
    for _ in range(3):
        reading = read(values[:-1], keys, seen=seen)
        assert [edit.new for edit in reading.edits] == ["edited"]
        assert repr(header) in reading.problems[0]
        assert len(reading.seen) == 10
    # Nothing of it is believed to have been there once the header is back.
    back = read(tab(keys), keys, seen=reading.seen)
    assert [edit.field for edit in back.edits] == []


@pytest.mark.parametrize(
    "values",
    [[], [[]], [["a", "b"], ["c"]], [["Key ID", "Notes"], ["key_1", "x"]]],
    ids=["nothing", "blank", "something else", "too little"],
)
def test_a_tab_without_its_header_is_not_understood(values: list[list[object]]) -> None:
    with pytest.raises(Broken):
        read(values, make())


def test_two_headers_that_changed_places_are_not_believed() -> None:
    keys = make(10)
    for one, other in (("Revoked", "Requests"), ("Tier", "Key Name"), ("User Email", "Notes")):
        values = tab(keys)
        for number, line in enumerate(values[1:], 1):
            line[at("Requests")] = 100 + number
        first, second = at(one), at(other)
        values[0][first], values[0][second] = other, one
        reading = read(values, keys)
        assert (reading.edits, reading.fixes, reading.held) == ([], [], True)
        assert any("at once" in text for text in reading.problems)


def test_what_people_write_under_revoked_counts_in_however_many_rows() -> None:
    keys = make(10)
    values = tab(keys)
    for line in values[1:]:
        line[at("Revoked")] = "perhaps"
    reading = read(values, keys)
    assert {edit.key_id for edit in reading.edits} == {item.key.id for item in keys}
    assert not reading.held


@pytest.mark.parametrize("header", ["Requests", "Created At", "Key Name", "Tier", "Key Hash"])
def test_a_header_that_changed_places_with_revoked_revokes_nothing(header: str) -> None:
    keys = make(10)
    values = tab(keys)
    for line in values[1:]:
        line[at("Requests")] = 17
    values[0][at("Revoked")], values[0][at(header)] = header, "Revoked"
    reading = read(values, keys)
    assert (reading.edits, reading.held) == ([], True)


def test_names_that_are_gone_at_once_are_kept() -> None:
    keys = make(10)
    values = tab(keys)
    for line in values[1:]:
        line[at("Key Name")] = ""
    reading = read(values, keys)
    assert (reading.edits, reading.held) == ([], True)


def test_of_two_rows_of_one_key_the_stricter_counts_and_both_are_named() -> None:
    keys = make(10)
    values = [*tab(keys), list(rows(keys)[0])]
    values[1][at("Revoked")] = True
    values[1][at("Key Name")] = "mine"
    reading = read(values, keys)
    assert [(edit.field, edit.new) for edit in reading.edits] == [("revoked", "yes")]
    assert "has the rows 2, 12" in reading.problems[0]


def test_a_row_is_known_by_its_hash_or_masked_key_when_its_id_is_gone() -> None:
    keys = make(2)
    values = tab(keys)
    values[1][at("Key ID")] = ""
    values[2][at("Key ID")] = values[2][at("Key Hash")] = ""
    reading = read(values, keys)
    assert reading.edits == []
    written = {fix.row: fix.cells for fix in reading.fixes}
    assert written[1][at("Key ID")] == keys[0].key.id
    assert written[2] == {
        at("Key ID"): keys[1].key.id,
        at("Key Hash"): keys[1].digest,
    }


def test_a_write_that_hit_the_row_of_another_key_is_undone() -> None:
    keys = make(10)
    values = tab(keys)
    values[3][at("Key ID")], values[3][at("Revoked")] = keys[0].key.id, True
    reading = read(values, keys)
    assert reading.edits == []
    assert "the row belongs to" in reading.problems[0]
    (fix,) = reading.fixes
    assert fix.cells == {at("Key ID"): keys[2].key.id, at("Revoked"): False}


@pytest.mark.parametrize(
    "secret",
    [mint_secret(), "sk-" + "a1B2" * 5, "sk-proj-" + "x_Y-9" * 12],
    ids=["ours", "short", "long"],
)
def test_a_pasted_key_is_taken_in_for_the_user_of_its_row(secret: str) -> None:
    keys = make(2)
    line: list[object] = [f" {secret} ", "New@Example.com", "from home", "gold"]
    reading = read([*tab(keys), line], keys)
    (paste,) = reading.pasted
    assert paste.digest == digest(secret).hex()
    assert (paste.email, paste.name, paste.tier, paste.revoked) == (
        "new@example.com",
        "from home",
        "gold",
        False,
    )
    (fix,) = reading.fixes
    assert secret not in str(fix)
    assert secret not in repr(reading)


def test_a_pasted_key_waits_for_an_address_without_standing_there() -> None:
    secret, keys = mint_secret(), make(2)
    first = read([*tab(keys), [secret, "", "x"]], keys)
    assert first.pasted == []
    assert "does not work yet" in first.problems[0]
    later: list[object] = [console.masked(secret), "new@example.com", "x"]
    second = read([*tab(keys), later], keys, orphans=first.orphans)
    assert [paste.digest for paste in second.pasted] == [digest(secret).hex()]


def test_a_key_over_the_mask_of_another_is_hidden_and_not_taken() -> None:
    keys = make(2)
    values = tab(keys)
    values[1][at("API Key")] = mint_secret()
    reading = read(values, keys)
    assert reading.pasted == []
    assert reading.fixes[0].cells[at("API Key")] == keys[0].key.masked


@given(st.sampled_from(HEADER), st.text(max_size=20), st.text(max_size=20), st.booleans())
def test_a_key_of_ours_is_hidden_wherever_it_is_written(
    header: object, before: str, after: str, broken: bool
) -> None:
    keys, secret = make(2), mint_secret()
    values = tab(keys)
    values[2][at(str(header))] = f"{before} {secret} {after}"
    values[0].append(secret)
    fixes = list(console.conceal(values, {item.digest for item in keys}))
    if not broken:
        fixes = read(values, keys).fixes
    for fix in fixes:
        for column, cell in fix.cells.items():
            line = values[fix.row]
            line.extend([""] * (column + 1 - len(line)))
            line[column] = cell
    if not read(values, keys).held:
        assert secret not in str(values)


def test_no_problem_quotes_a_key() -> None:
    secret, keys = mint_secret(), make(2)
    values = tab(keys)
    values[1][at("Tier")] = secret
    values.append(["", f"{secret}@example.com", "x"])
    assert secret not in str(read(values, keys).problems)


def test_a_foreign_row_is_left_alone_and_named() -> None:
    keys, foreign = make(2), make()
    reading = read([*tab(keys), *rows(foreign)], keys)
    assert (reading.edits, reading.pasted, reading.fixes) == ([], [], [])
    assert reading.problems == []
    assert foreign[0].key.id in reading.foreign


def test_records_give_back_what_the_tab_has() -> None:
    keys = make(3)
    values = tab(keys)
    values[2][at("Revoked")] = "x"
    found, problems = console.records(values, NOW)
    assert problems == []
    assert [(it.id, it.digest.hex(), it.email, it.name, it.masked) for it in found] == [
        (it.key.id, it.digest, it.key.email, it.key.name, it.key.masked) for it in keys
    ]
    assert [it.revoked for it in found] == [False, True, False]
    assert all(it.created_at == NOW for it in found)


@pytest.mark.parametrize(
    ("header", "cell", "words"),
    [
        ("Key ID", "12", "is no Key ID"),
        ("Key Hash", "12", "Key Hash"),
        ("User Email", "nobody", "e-mail"),
    ],
)
def test_a_damaged_row_gives_no_key(header: str, cell: object, words: str) -> None:
    keys = make(3)
    values = tab(keys)
    values[2][at(header)] = cell
    found, problems = console.records(values, NOW)
    assert len(found) == 2
    assert words in problems[0]


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(),
    st.text(max_size=8),
    st.sampled_from([*map(str, HEADER), "sk-" + "a" * 30, "#REF!", "key_0000000000000000"]),
)


@given(st.lists(st.lists(CELLS, max_size=14), max_size=6), st.booleans())
def test_whatever_is_in_the_tab_no_key_is_brought_back_and_nothing_fails(
    lines: list[list[object]], with_header: bool
) -> None:
    keys = [*make(3), *make(2, revoked_at=NOW)]
    values = [*([list(HEADER)] if with_header else []), *lines]
    seen = seen_of(keys)
    for _ in range(3):
        try:
            reading = read(values, keys, seen=seen)
        except Broken:
            return
        seen = reading.seen
        assert all(edit.new == "yes" for edit in reading.edits if edit.field == "revoked")
        assert {edit.key_id for edit in reading.edits} <= {item.key.id for item in keys}
