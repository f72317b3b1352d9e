"""What labs write of their animals is taken as archives take it, or refused with what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from dlc_assets.lab import subject_terms
from dlc_assets.lab.subject_terms import age_term, is_human, sex_term, species_term, unknown_to_dandi, weight_term

URL = "http://purl.obolibrary.org/obo/NCBITaxon_"


def refused(check: Callable[[Any], str], value: object) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (what it says is what the tests are about)
        check(value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *((word, "Mus musculus") for word in ("mouse", "Mice", "house mouse", "mus Musculus", "Mus_musculus", "M. musculus")),
        ("rat", "Rattus norvegicus"),
        ("human", "Homo sapiens"),
        ("homo sapiens", "Homo sapiens"),
        ("fruit fly", "Drosophila melanogaster"),
        ("drosophila", "Drosophila melanogaster"),
        ("zebrafish", "Danio rerio"),
        ("zebrfish", "Danio rerio"),
        ("macaque", "Macaca mulatta"),
        ("rhesus", "Macaca mulatta"),
        ("marmoset", "Callithrix jacchus"),
        ("C. elegans", "Caenorhabditis elegans"),
        ("ambystoma mexicanum", "Ambystoma mexicanum"),
        # DANDI's client does not know these by name
        ("ferret", f"{URL}9669"),
        ("cat", f"{URL}9685"),
        ("dog", f"{URL}9615"),
        ("Canis lupus familiaris", f"{URL}9615"),
        ("pig", f"{URL}9823"),
        ("honeybee", f"{URL}7460"),
        ("NCBITaxon:10090", f"{URL}10090"),
        ("NCBITaxon_10090", f"{URL}10090"),
        ("https://purl.obolibrary.org/obo/NCBITaxon_10090", f"{URL}10090"),
    ],
)  # fmt: skip
def test_a_species_that_is_no_latin_name_is_refused_with_the_one_that_is(written: str, meant: str) -> None:
    said = refused(species_term, written)
    assert said.startswith('expected a Latin name such as "Mus musculus", or an NCBITaxon URL.')
    assert said.endswith(f'Did you mean "{meant}"?')
    assert species_term(meant) == meant, "what is suggested can be written"


@pytest.mark.parametrize("written", ["dragon", "", "Mus musculus domesticus", 10090])
def test_a_species_that_nobody_can_guess_is_refused_without_a_guess(written: object) -> None:
    assert "Did you mean" not in refused(species_term, written)


@pytest.mark.parametrize("written", ["Mus musculus", "Ambystoma mexicanum", f"{URL}9669"])
def test_latin_names_and_taxon_urls_are_taken(written: str) -> None:
    assert species_term(written) == written


@pytest.mark.parametrize(
    ("written", "instead"),
    [("Mustela putorius", f"{URL}9669"), ("Mus spretus", f"{URL}<number>"), ("Mus muscullus", f"{URL}<number>")],
)
def test_a_name_that_dandi_would_take_for_another_species_is_refused(written: str, instead: str) -> None:
    said = refused(species_term, written)
    assert "takes every name that begins like this one for Mus musculus" in said
    assert instead in said


def test_dandi_knows_the_names_that_are_suggested_and_takes_some_for_others() -> None:
    """Their table moves with their releases: this says when ours must follow."""
    dandi = pytest.importorskip("dandi.metadata.util")
    for species in subject_terms._KNOWN:
        if species.named:
            assert str(dandi.extract_species({"species": species.latin}).identifier) == f"{URL}{species.taxon}"
            assert unknown_to_dandi(species.latin) is None
        elif species.latin == "Mustela putorius":
            assert str(dandi.extract_species({"species": species.latin}).identifier) == f"{URL}10090"
        else:
            with pytest.raises(ValueError, match="Cannot interpret species field"):
                dandi.extract_species({"species": species.latin})
            assert unknown_to_dandi(species.latin) == f"{URL}{species.taxon}"


def test_a_name_that_dandi_does_not_know_is_told_with_the_nearest_that_it_does() -> None:
    assert unknown_to_dandi("Ambystoma mexicanum") == f"its NCBITaxon URL, {URL}<number>"
    assert "or is Rattus norvegicus meant?" in str(unknown_to_dandi("Ratus norvegicus"))
    assert unknown_to_dandi(f"{URL}8296") is None


def test_people_are_people_by_name_and_by_number() -> None:
    assert is_human("Homo sapiens")
    assert is_human(f"{URL}9606")
    assert not is_human("Mus musculus")
    assert not is_human(f"{URL}96061")
    assert not is_human(None)


@pytest.mark.parametrize(("written", "meant"), [("male", "M"), ("Female", "F"), ("f", "F"), (" m ", "M"), ("unknown", "U")])  # fmt: skip
def test_a_sex_in_words_is_refused_with_its_letter(written: str, meant: str) -> None:
    assert refused(sex_term, written).endswith(f'U (unknown). Did you mean "{meant}"?')
    assert [sex_term(letter) for letter in "MFUO"] == list("MFUO")


@pytest.mark.parametrize("written", ["boy", True, 1, None])
def test_a_sex_that_is_none_is_refused(written: object) -> None:
    assert refused(sex_term, written) == "expected M (male), F (female), O (other) or U (unknown)"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("90 days", "P90D"),
        ("90d", "P90D"),
        ("1 day", "P1D"),
        ("12 weeks", "P12W"),
        ("10-wk", "P10W"),
        ("3 months", "P3M"),
        ("2 years old", "P2Y"),
        ("1.5 yrs", "P1.5Y"),
        ("p90d", "P90D"),
        ("P60", "P60D"),  # postnatal day 60
        ("PND 60", "P60D"),
        ("12 hours", "PT12H"),
        ("30 min", "PT30M"),
        ("6-8 weeks", "P6W/P8W"),
        ("30 to 40 years", "P30Y/P40Y"),
    ],
)
def test_an_age_in_words_is_refused_with_the_duration(written: str, meant: str) -> None:
    assert refused(age_term, written).endswith(f'Did you mean "{meant}"?')
    assert age_term(meant) == meant


@pytest.mark.parametrize("written", ["P90D", "P1Y6M", "P12W", "P0.5Y", "PT12H", "P30Y/P40Y", "P90Y/"])
def test_durations_and_ranges_are_taken_as_the_inspector_takes_them(written: str) -> None:
    inspector = pytest.importorskip("nwbinspector.checks._nwbfile_metadata")
    assert age_term(written) == written
    assert all(re.fullmatch(inspector.duration_regex, end) for end in written.split("/") if end)


@pytest.mark.parametrize("written", [90, "90", 12.5])
def test_an_age_without_a_unit_is_asked_for_it(written: object) -> None:
    assert f"a number alone has no unit. For {written} days write P{written}D" in refused(age_term, written)


@pytest.mark.parametrize("written", ["adult", "P", "P/", "PT", "P90", "", "P1D2Y"])
def test_an_age_that_is_no_duration_is_refused(written: str) -> None:
    assert refused(age_term, written).startswith("expected an ISO 8601 duration such as P90D (90 days)")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("24.5g", "24.5 g"), ("24,5 g", "24.5 g"), ("30 grams", "30 g"), ("2 Kilograms", "2 kg"), ("20 µg", "20 ug")],
)
def test_a_weight_is_refused_with_its_right_form(written: str, meant: str) -> None:
    assert refused(weight_term, written).endswith(f'Did you mean "{meant}"?')
    assert weight_term(meant) == meant


@pytest.mark.parametrize("written", [24.5, "24.5", "heavy", "25 lb"])
def test_a_weight_without_a_unit_of_mass_is_refused(written: object) -> None:
    assert refused(weight_term, written).startswith('expected a number and a unit such as "24.5 g"')
