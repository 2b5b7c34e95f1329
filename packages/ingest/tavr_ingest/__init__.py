"""Stage: TalkVid metadata and sources to normalised clips."""
