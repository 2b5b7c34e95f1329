"""EU AI Act, Article 53(1)(d): the public summary of training content, under the headings of the Commission's template.

The template was published on 24 July 2025 with an explanatory notice. The page is public: it holds counts, licences and
origins, never an id of a clip or a person.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tavr_lineage.exports.dossier import STATED, Dossier
from tavr_lineage.exports.pages import Block, Fields, Grid, Heading, Paragraph

UNSTATED = ""
_MOST_CLIPS = 1_000_000  # captions of at most 512 tokens: below it the text stays below 1 billion tokens
_HOURS = ((10_000, "less than 10 000 hours"), (1_000_000, "10 000 to 1 million hours"))
_MOST_HOURS = "more than 1 million hours"
_WEB = ("http", "https")


def training_summary(dossier: Dossier) -> list[Block]:
    """The whole page."""
    return [
        Heading(1, f"Public summary of training content of {dossier.name}"),
        Paragraph(
            "Regulation (EU) 2024/1689, Article 53(1)(d), after the template of the European Commission. "
            f"A view of the run record sha256:{dossier.record_sha256}; "
            "what it does not know is to be stated by the provider."
        ),
        Fields({"Version of the summary": dossier.name, "Last update": dossier.record["run"]["finished_at"]}),
        *_general(dossier),
        *_sources(dossier),
        *_processing(dossier),
    ]


def _general(dossier: Dossier) -> list[Block]:
    use = dossier.training()
    size = _range(use.seconds / 3600)
    weights = sorted({(row["role"], row["origin"], row["licence"]) for row in dossier.record["weights"]})
    return [
        Heading(2, "1. General information"),
        Heading(3, "1.1 Provider identification"),
        Fields({"Provider name and contact details": UNSTATED, "Authorised representative": UNSTATED}),
        Heading(3, "1.2 Model identification"),
        Fields({"Versioned model name": dossier.name, "Date of placement on the Union market": UNSTATED}),
        Paragraph("Model dependencies: pretrained networks, whose own training content their providers summarise."),
        Grid(("role", "origin", "licence"), weights),
        Heading(3, "1.3 Modalities, overall training data size and other characteristics"),
        Grid(
            ("modality", "training data size", "content"),
            [
                (
                    "video",
                    f"{size} ({use.seconds / 3600:.2f} hours, {use.clips} clips)",
                    "people who talk, faces visible",
                ),
                ("audio", f"{size} (the sound of the same clips)", "speech"),
                ("text", "less than 1 billion tokens" if use.clips < _MOST_CLIPS else STATED, "one caption a clip"),
            ],
        ),
        Fields(
            {
                "People in the training data": str(use.people),
                "Latest date of data acquisition": max(
                    (row["retrieved_at"] for row in _rows(dossier)), default=UNSTATED
                ),
                "Is the model continuously trained on new data afterwards": "no: every version is a run of its own",
                "Linguistic characteristics of the training data": UNSTATED,
                "Other relevant characteristics": UNSTATED,
            }
        ),
    ]


def _sources(dossier: Dossier) -> list[Block]:
    rights = sorted(dossier.record["licences"]["data"].items())
    return [
        Heading(2, "2. List of data sources"),
        Paragraph("Clips trained on, by the rights their source states:"),
        Grid(("rights", "clips"), [(name, str(count)) for name, count in rights]),
        Heading(3, "2.1 Publicly available datasets"),
        Fields({"Large publicly available datasets": UNSTATED, "Other publicly available datasets": UNSTATED}),
        Heading(3, "2.2 Private non-publicly available datasets obtained from third parties"),
        Fields({"2.2.1 Commercially licensed by rightsholders": UNSTATED, "2.2.2 From other third parties": UNSTATED}),
        Heading(3, "2.3 Data crawled and scraped from online sources"),
        *_online(dossier),
        Heading(3, "2.4 User data"),
        Fields(
            {
                "Data from interactions with the model": UNSTATED,
                "Data from the provider's other services or products": UNSTATED,
            }
        ),
        Heading(3, "2.5 Synthetic data"),
        Fields(_synthetic(dossier)),
        Heading(3, "2.6 Other sources of data"),
        Fields(_rendered(dossier)),
    ]


def _online(dossier: Dossier) -> list[Block]:
    """What sources.lock says was fetched over the web: hosts by number of sections; crawlers it cannot know."""
    hosts = Counter(
        host for row in _rows(dossier) if (parts := urlsplit(row["origin"])).scheme in _WEB and (host := parts.hostname)
    )
    dates = sorted(row["retrieved_at"] for row in _rows(dossier) if urlsplit(row["origin"]).scheme in _WEB)
    nothing = "nothing was fetched over the web" if _rows(dossier) else UNSTATED
    told: list[Block] = [
        Fields(
            {
                "Crawlers used, their names and behaviour": UNSTATED,
                "Period of data collection": f"{dates[0]} to {dates[-1]}" if dates else nothing,
                "Sections fetched over the web": str(len(dates)) if _rows(dossier) else UNSTATED,
            }
        )
    ]
    if hosts:
        told.append(Grid(("domain name", "sections"), [(name, str(count)) for name, count in hosts.most_common()]))
    return told


def _synthetic(dossier: Dossier) -> dict[str, str]:
    """Generated data that the model learnt from: the preference pairs, drawn from this model's own second stage."""
    record = dossier.record
    used = dossier.uses().get("preferences")
    stage = next((s for s in record["stages"] if s["name"] == "preferences" and s["state"] in ("done", "cached")), None)
    if stage is None or used is None:
        answer = "none generated in this run"
    else:
        answer = f"video of preference pairs for {used.clips} clips, generated by the stage2 model of the same run"
    return {
        "Synthetic data generated to train the model (alignment)": answer,
        "Other AI models used to generate training data": UNSTATED,
    }


def _rendered(dossier: Dossier) -> dict[str, str]:
    schemes = Counter(urlsplit(row["origin"]).scheme or "file" for row in _rows(dossier))
    world = dossier.sources.get("world")
    answer = f"yes: {_settings(world)}" if world else "no" if dossier.sources else UNSTATED
    told = ", ".join(f"{count} by {scheme}" for scheme, count in sorted(schemes.items()))
    return {
        "Records of the source list, by the scheme of their origin": told,
        "Procedurally rendered people (no real person)": answer,
    }


def _settings(world: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(world.items()))


def _processing(dossier: Dossier) -> list[Block]:
    excluded = Counter(row["rule"] for rows in dossier.record["exclusions"].values() for row in rows)
    return [
        Heading(2, "3. Relevant data processing aspects"),
        Heading(3, "3.1 Respect of reservation of rights from the text and data mining exception or limitation"),
        Fields(
            {
                "Signatory of the Code of Practice for general-purpose AI models": UNSTATED,
                "Measures to respect reservations of rights": UNSTATED,
                "Withdrawals": "persons, clips and sources that were withdrawn are kept out of every later run",
            }
        ),
        Heading(3, "3.2 Removal of illegal content"),
        Fields({"Measures taken": UNSTATED}),
        Heading(3, "3.3 Other information"),
        Paragraph("Records left out before training, by the rule that left them out:"),
        Grid(("rule", "records"), [(rule, str(count)) for rule, count in sorted(excluded.items())]),
    ]


def _rows(dossier: Dossier) -> list[Mapping[str, Any]]:
    return dossier.sources.get("rows", [])


def _range(hours: float) -> str:
    return next((told for most, told in _HOURS if hours < most), _MOST_HOURS)
