"""Views of a candidate's record in the formats of others; none of them knows anything the record does not."""
