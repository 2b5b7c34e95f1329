"""`python -m tavr_preferences`."""

from tavr_preferences.config import PreferencesConfig
from tavr_records.process import run_stage


def main() -> None:
    """Run the stage."""
    from tavr_preferences.stage import preferences

    run_stage("preferences", PreferencesConfig, preferences)


if __name__ == "__main__":
    main()
