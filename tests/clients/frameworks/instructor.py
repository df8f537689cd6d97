"""What programs do with instructor: `python instructor.py CASES BASE_URL KEY` prints one JSON object."""

import json
import logging
import sys

import instructor
import openai
from pydantic import BaseModel

CASES, BASE_URL, KEY = sys.argv[1:]
logging.getLogger("instructor").setLevel(logging.CRITICAL + 1)  # errors are looked at below
ADA = [{"role": "user", "content": "Ada is 36 years old"}]


class Person(BaseModel):
    name: str
    age: int


def client(mode: instructor.Mode, key: str = KEY) -> instructor.Instructor:
    sdk = openai.OpenAI(base_url=BASE_URL, api_key=key, max_retries=0)
    return instructor.from_openai(sdk, mode=mode)


def structure() -> object:
    """In each way that it has to ask for a structure."""
    modes = (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA)
    people = [
        client(mode).create(model="demo-fast", response_model=Person, messages=ADA)
        for mode in modes
    ]
    assert len({(person.name, person.age) for person in people}) == 1, people
    return {"name": people[0].name, "age": people[0].age}


def stream() -> object:
    people = list(
        client(instructor.Mode.TOOLS).create_partial(
            model="demo-fast", response_model=Person, messages=ADA
        )
    )
    return {"name": people[-1].name, "age": people[-1].age, "pieces": len(people)}


def errors() -> object:
    try:
        client(instructor.Mode.TOOLS, "sk-wrong").create(
            model="demo-fast", response_model=Person, messages=ADA, max_retries=0
        )
    except Exception as error:
        causes = [error]
        while causes[-1].__cause__ is not None:
            causes.append(causes[-1].__cause__)
        return {"key": any("API key" in str(cause) for cause in causes)}
    return {}


print(json.dumps({case: globals()[case]() for case in CASES.split(",")}))
