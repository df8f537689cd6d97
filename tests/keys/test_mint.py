import string
import time

import pytest

from gateway.secrets import conceal
from keys.digest import digest
from keys.mint import mask, mint_id, mint_secret, well_formed


def test_secrets_are_long_unlike_and_well_formed() -> None:
    secrets = {mint_secret() for _ in range(1000)}
    assert len(secrets) == 1000
    for secret in secrets:
        assert secret.startswith("sk-")
        assert len(secret) == 52
        assert set(secret[3:]) <= set(string.ascii_letters + string.digits)
        assert well_formed(secret)


def test_one_wrong_character_is_noticed() -> None:
    secret = mint_secret()
    for place in range(len(secret)):
        other = "x" if secret[place] != "x" else "y"
        assert not well_formed(secret[:place] + other + secret[place + 1 :])


def test_two_swapped_characters_are_noticed() -> None:
    secret = mint_secret()
    for place in range(3, len(secret) - 1):
        first, second = secret[place], secret[place + 1]
        if first != second:
            assert not well_formed(secret[:place] + second + first + secret[place + 2 :])


@pytest.mark.parametrize(
    "text",
    ["", "sk-", "sk-" + "0" * 49, "sk-proj-abc", "pk-" + "a" * 49, "sk-" + "٣" * 49, "sk-\ud800"],
)
def test_what_is_no_secret_is_not_well_formed(text: str) -> None:
    assert not well_formed(text)
    assert not well_formed(text + "\n")


def test_a_mask_shows_eight_characters_of_a_secret() -> None:
    secret = mint_secret()
    assert mask(secret) == f"{secret[:7]}…{secret[-4:]}"


def test_a_digest_is_the_sha_256() -> None:
    assert digest("abc").hex().startswith("ba7816bf8f01cfea414140de5dae2223")


def test_ids_sort_by_the_time_they_were_made() -> None:
    ids = []
    for _ in range(5):
        ids.append(mint_id())
        time.sleep(0.002)
    assert ids == sorted(ids)
    assert len({mint_id() for _ in range(2000)}) == 2000
    assert {len(id) for id in ids} == {20}


def test_the_id_of_a_key_is_no_credential() -> None:
    for _ in range(1000):
        assert conceal(f"the key {(key_id := mint_id())} asked") == f"the key {key_id} asked"
