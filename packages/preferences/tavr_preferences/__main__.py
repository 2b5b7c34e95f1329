"""`python -m tavr_preferences`."""

from tavr_records.process import run_stage

from tavr_preferences.config import PreferencesConfig


def main() -> None:
    """Run the stage."""
    from tavr_preferences.stage import preferences

    run_stage("preferences", PreferencesConfig, preferences)


if __name__ == "__main__":
    main()
