"""Stage: masked DPO with a flow-matching anchor."""
