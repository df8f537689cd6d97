"""What looks like a credential, in any text that may leave this process: a log line, an error's
message, a tool's result. The one place that knows.

Texts are strangers': no alternative may look far ahead from a place that a text can repeat. A slug
(`sk-learn-for-beginners`) is no key: those have digits or capitals, or stars where one was masked.
Nor is the id of one of our own keys, by which operators find whose it is.
"""

import re

_PREFIXES = (
    "sk|pk|rk|gsk|xai|csk|hf|nvapi|fw|r8|pplx|tvly|key|gh[oprsu]|xox[abeprs]|glpat|github_pat"
)
_ID = "key_[0-9a-hjkmnp-tv-z]{16}"

_CREDENTIAL = re.compile(
    rf"""\b(?!{_ID}\b)(?:{_PREFIXES})[-_](?=[-_a-z.]{{0,60}}[A-Z0-9*])[-_A-Za-z0-9.*]{{6,}}
      | \bsk-(?:proj|ant|or|svcacct|admin)-[-_A-Za-z0-9.*]{{6,}}
      | \b(?:AIza|AKIA|ASIA)[-_A-Za-z0-9]{{12,}}
      | (?i:\bbearer)\s{{1,8}}[-._~+/A-Za-z0-9]{{6,}}=*
      | (?<![-_A-Za-z0-9])eyJ[-_A-Za-z0-9]{{8,}}\.[-_A-Za-z0-9]+(?:\.[-_A-Za-z0-9]*)?   # a JWT
      | -----BEGIN[ A-Z]{{0,40}}PRIVATE\ KEY-----.*?(?:-----END[ A-Z]{{0,40}}PRIVATE\ KEY-----|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)


def conceal(text: str, word: str = "[key]") -> str:
    """The same with `word` for whatever looks like a credential."""
    return _CREDENTIAL.sub(word, text)
