"""Frozen networks, one module a role: identity, people, keypoints, speech, lipsync, reward."""
