"""Great Expectations suites as code, verdicts, quarantine, static reports."""
