"""What is taken for a credential, and what is not; and that no text can occupy the search."""

import time

import pytest

from gateway.secrets import conceal


@pytest.mark.parametrize(
    "text",
    [
        "sk-Ab3dEf6hIjKlMnOp",
        "sk-proj-abcdefghijkl",
        "sk-ant-api03-abc_def",
        "sk-****************Ab3d",
        "ghp_Ab3dEf6hIjKlMnOpQrSt",
        "AIzaSyA1234567890abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "Bearer abcdefghijkl",
        "key_06h163navjz24jwr06h163navjz24jwr",
        "authorization: bearer xyzxyzxyz",
        "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIE",
    ],
)
def test_a_credential_is_concealed_wherever_it_stands(text: str) -> None:
    said = conceal(f"before ({text}) after")
    assert "[key]" in said
    assert said.startswith("before (")
    assert text not in said
    assert conceal(text, "[secret]") in ("[secret]", "authorization: [secret]")


@pytest.mark.parametrize(
    "text",
    [
        "sk-learn-for-beginners",
        "key-value stores and hf-radio-operators",
        "a skateboard, a task-force",
        "The bearer of bad news",
        "eyJ is how a token begins",
        "call_Ab3dEf6hIjKlMnOp",
        "key_06h163navjz24jwr",
    ],
)
def test_words_are_left_alone(text: str) -> None:
    assert conceal(text) == text


@pytest.mark.parametrize("piece", ["eyJ-", "sk-", "sk-a", "Bearer ", "-----BEGIN ", "key-key-"])
def test_a_text_of_strangers_does_not_occupy_the_search(piece: str) -> None:
    text = piece * (256 * 1024 // len(piece))
    began = time.process_time()
    conceal(text)
    assert time.process_time() - began < 5  # a quadratic search would take minutes
