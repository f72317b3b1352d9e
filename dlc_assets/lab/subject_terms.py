"""The words in which archives take an animal's species, sex, age and weight: one place that checks them and says what to write.

Forms are those of pynwb's Subject, nwbinspector and DANDI. Each check returns the term, or raises a ValueError whose message says what
was expected and, where that can be told, what to write; callers name the file and the key.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, NamedTuple

_TAXON_URL = "http://purl.obolibrary.org/obo/NCBITaxon_"
_SPECIES = re.compile(rf"[A-Z][a-z]* [a-z]+|{re.escape(_TAXON_URL)}\d+")
_NUMBER = r"\d+(?:\.\d+)?"
_DURATION = (
    rf"P(?!$|/)(?:{_NUMBER}Y)?(?:{_NUMBER}M)?(?:{_NUMBER}W)?(?:{_NUMBER}D)?"
    rf"(?:T(?=\d)(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?"
)
_AGE = re.compile(rf"{_DURATION}(?:/(?:{_DURATION})?)?")
_WEIGHT = re.compile(rf"{_NUMBER} (?:kg|g|mg|ug|μg|ng|pg)")
SEXES = ("M", "F", "U", "O")

_EXPECTED_SPECIES = 'expected a Latin name such as "Mus musculus", or an NCBITaxon URL'
_EXPECTED_SEX = "expected M (male), F (female), O (other) or U (unknown)"
_EXPECTED_AGE = "expected an ISO 8601 duration such as P90D (90 days), P12W, P3M or P2Y"
_EXPECTED_WEIGHT = 'expected a number and a unit such as "24.5 g"'


class _Species(NamedTuple):
    """A species that labs work with; `taxon` is its number in NCBI's taxonomy, `named` whether DANDI's client knows the Latin name."""

    latin: str
    taxon: int
    named: bool
    common: tuple[str, ...]

    @property
    def best(self) -> str:
        """What to write so that archives know it."""
        return self.latin if self.named else f"{_TAXON_URL}{self.taxon}"


_KNOWN = (
    _Species("Mus musculus", 10090, True, ("mouse", "mice", "house mouse", "lab mouse", "laboratory mouse", "mus", "c57bl/6", "c57bl/6j")),
    _Species("Rattus norvegicus", 10116, True, ("rat", "rats", "norway rat", "brown rat", "lab rat", "rattus", "long evans", "wistar")),
    _Species("Rattus rattus", 10117, True, ("black rat",)),
    _Species("Homo sapiens", 9606, True, ("human", "humans", "person", "people", "man", "woman", "homo", "patient", "participant")),
    _Species("Drosophila melanogaster", 7227, True, ("fly", "flies", "fruit fly", "fruit flies", "fruitfly", "drosophila")),
    _Species("Danio rerio", 7955, True, ("zebrafish", "zebra fish", "danio")),
    _Species("Macaca mulatta", 9544, True, ("macaque", "macaques", "monkey", "rhesus", "rhesus macaque", "rhesus monkey", "macaca")),
    _Species("Macaca nemestrina", 9545, True, ("pig-tailed macaque", "pigtail macaque")),
    _Species("Macaca radiata", 9548, True, ("bonnet macaque",)),
    _Species("Callithrix jacchus", 9483, True, ("marmoset", "marmosets", "common marmoset")),
    _Species("Caenorhabditis elegans", 6239, True, ("worm", "worms", "roundworm", "nematode", "caenorhabditis")),
    _Species("Meriones unguiculatus", 10047, True, ("gerbil", "gerbils", "mongolian gerbil")),
    _Species("Polistes fuscatus", 30207, True, ("paper wasp",)),
    _Species("Mustela putorius", 9669, False, ("ferret", "ferrets", "mustela putorius furo")),
    _Species("Macaca fascicularis", 9541, False, ("cynomolgus", "crab-eating macaque", "long-tailed macaque")),
    _Species("Felis catus", 9685, False, ("cat", "cats", "house cat")),
    _Species("Canis familiaris", 9615, False, ("dog", "dogs", "canis lupus familiaris")),
    _Species("Sus scrofa", 9823, False, ("pig", "pigs", "minipig", "swine")),
    _Species("Ovis aries", 9940, False, ("sheep",)),
    _Species("Bos taurus", 9913, False, ("cow", "cows", "cattle")),
    _Species("Equus caballus", 9796, False, ("horse", "horses")),
    _Species("Oryctolagus cuniculus", 9986, False, ("rabbit", "rabbits")),
    _Species("Cavia porcellus", 10141, False, ("guinea pig", "guinea pigs")),
    _Species("Mesocricetus auratus", 10036, False, ("hamster", "syrian hamster", "golden hamster")),
    _Species("Gallus gallus", 9031, False, ("chicken", "chick", "chicks")),
    _Species("Taeniopygia guttata", 59729, False, ("zebra finch", "zebra finches")),
    _Species("Columba livia", 8932, False, ("pigeon", "pigeons")),
    _Species("Apis mellifera", 7460, False, ("bee", "bees", "honeybee", "honey bee", "honeybees")),
    _Species("Xenopus laevis", 8355, False, ("frog", "xenopus", "clawed frog")),
    _Species("Oryzias latipes", 8090, False, ("medaka",)),
)  # fmt: skip
_BY_NAME = {
    name: species
    for species in _KNOWN
    for latin in [species.latin.lower()]
    for name in (latin, f"{latin[0]}. {latin.split()[1]}", f"{latin[0]} {latin.split()[1]}", *species.common)
}
# DANDI's client takes each name that begins so for the one species: Mustela putorius, a ferret, for a mouse.
_TAKEN_FOR = {"mus": "Mus musculus", "homo": "Homo sapiens", "caenorhabditis": "Caenorhabditis elegans"}


def species_term(value: Any) -> str:
    """Return *value* if it is a species as archives take it: a Latin binomial or an NCBITaxon URL."""
    if isinstance(value, str) and _SPECIES.fullmatch(value):
        taken_for = next((latin for start, latin in _TAKEN_FOR.items() if value.lower().startswith(start)), value)
        if taken_for != value:
            meant = _BY_NAME.get(value.lower())
            url = meant.best if meant is not None else f"{_TAXON_URL}<number>"
            raise ValueError(
                f"DANDI's client takes every name that begins like this one for {taken_for}. If that is meant, write it out; "
                f"else write the species' NCBITaxon URL, {url}"
            )
        return value
    raise ValueError(f"{_EXPECTED_SPECIES}{_did_you_mean(_nearest_species(str(value)))}")


def _nearest_species(text: str) -> str | None:
    taxon = re.fullmatch(r"(?:https?://\S*?)?(?:NCBI)?(?:Taxon|txid)[_:]?(\d+)/?", text.strip(), re.IGNORECASE)
    if taxon is not None:
        return f"{_TAXON_URL}{taxon[1]}"
    name = " ".join(re.sub(r"[_\s]+", " ", re.sub(r"\(.*?\)", "", text)).split()).lower()
    if name in _BY_NAME:
        return _BY_NAME[name].best
    binomial = name.capitalize()
    return _near(name) or (binomial if _SPECIES.fullmatch(binomial) else None)


def _near(name: str) -> str | None:
    near = difflib.get_close_matches(name, _BY_NAME, n=1, cutoff=0.75)
    return _BY_NAME[near[0]].best if near else None


def is_human(species: str | None) -> bool:
    """Say whether *species*, as `species_term` takes it, is Homo sapiens."""
    return species in {"Homo sapiens", f"{_TAXON_URL}9606"}


def unknown_to_dandi(species: str) -> str | None:
    """Return what to write for a *species* that DANDI's client does not know by its Latin name; None where it does, or for a URL."""
    if species.startswith(_TAXON_URL):
        return None
    known = _BY_NAME.get(species.lower())
    if known is None:
        near = _near(species.lower())
        return f"its NCBITaxon URL, {_TAXON_URL}<number>" + (f"; or is {near} meant?" if near else "")
    return None if known.named else known.best


def sex_term(value: Any) -> str:
    """Return *value* if it is M, F, U or O."""
    if value in SEXES:
        return str(value)
    words = {"m": "M", "male": "M", "f": "F", "female": "F", "other": "O", "o": "O", "unknown": "U", "u": "U"}
    raise ValueError(f"{_EXPECTED_SEX}{_did_you_mean(words.get(str(value).strip().lower()))}")


def age_term(value: Any) -> str:
    """Return *value* if it is an ISO 8601 duration, or two as DANDI takes a range: ``P30Y/P40Y``, ``P90D/``."""
    if isinstance(value, str) and _AGE.fullmatch(value):
        return value
    if re.fullmatch(_NUMBER, str(value).strip()):
        raise ValueError(f"{_EXPECTED_AGE}: a number alone has no unit. For {value} days write P{value}D")
    raise ValueError(f"{_EXPECTED_AGE}{_did_you_mean(_nearest_age(str(value).strip()))}")


# Postnatal day 60 is written P60 by those who work with the young.
_UNITS = {
    "D": ("", "d", "day"),
    "W": ("w", "wk", "week"),
    "M": ("m", "mo", "mon", "month"),
    "Y": ("y", "yr", "year"),
}
_CLOCK_UNITS = {"H": ("h", "hr", "hour"), "M": ("min", "minute")}


def _nearest_age(text: str) -> str | None:
    if _AGE.fullmatch(text.upper()):
        return text.upper()
    span = re.fullmatch(rf"({_NUMBER})\s*(?:-|\u2013|to)\s*({_NUMBER}\s*[a-z]+)", text.lower())
    if span is not None:
        youngest, oldest = (_nearest_age(end) for end in (span[1] + re.sub(r"[\d.]", "", span[2]), span[2]))
        return f"{youngest}/{oldest}" if youngest and oldest else None
    found = re.fullmatch(rf"(?:p|pnd|postnatal day)?\s*({_NUMBER})\s*-?\s*([a-z]*?)s?\.?(?: old)?", text.lower())
    if found is None:
        return None
    for before, units in (("P", _UNITS), ("PT", _CLOCK_UNITS)):
        for unit, words in units.items():
            if found[2] in words:
                return f"{before}{found[1]}{unit}"
    return None


def weight_term(value: Any) -> str:
    """Return *value* if it is a number and a unit of mass, with a space between."""
    if isinstance(value, str) and _WEIGHT.fullmatch(value):
        return value
    if re.fullmatch(_NUMBER, str(value).strip()):
        raise ValueError(f'{_EXPECTED_WEIGHT}: a number alone has no unit. For grams write "{value} g"')
    raise ValueError(f"{_EXPECTED_WEIGHT}{_did_you_mean(_nearest_weight(str(value)))}")


def _nearest_weight(text: str) -> str | None:
    found = re.fullmatch(r"(\d+(?:[.,]\d+)?)\s*([a-zµμ]+)\.?", text.strip().lower())
    if found is None:
        return None
    units = {"gram": "g", "gr": "g", "kilogram": "kg", "kilo": "kg", "milligram": "mg", "µg": "ug"}
    unit = found[2] if found[2] == "gs" or not found[2].endswith("s") else found[2][:-1]
    nearest = f"{found[1].replace(',', '.')} {units.get(unit, unit)}"
    return nearest if _WEIGHT.fullmatch(nearest) else None


def _did_you_mean(term: str | None) -> str:
    return f'. Did you mean "{term}"?' if term is not None else ""
