"""Programs for an auditor, to be read and run without the project; this package never imports them."""
