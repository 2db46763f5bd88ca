"""Each error class has its exit code, says when it occurs, and knows what to do next."""

import inspect

import pytest

from pipeline import errors

CLASSES = [
    item
    for _, item in inspect.getmembers(errors, inspect.isclass)
    if issubclass(item, errors.PipelineError) and item is not errors.PipelineError
]
CODES = {2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 70}


@pytest.mark.parametrize("error", CLASSES, ids=lambda item: item.__name__)
def test_every_class_has_a_code_of_the_contract_an_occasion_and_a_remedy(error: type[errors.PipelineError]) -> None:
    assert error.exit_code in CODES
    assert error.remedy.endswith(".")
    assert inspect.getdoc(error)
    assert str(error("what happened")) == "what happened"
    assert error("x", remedy="Do this.").remedy == "Do this."


def test_every_code_of_the_contract_has_a_class() -> None:
    assert {error.exit_code for error in CLASSES} == CODES
