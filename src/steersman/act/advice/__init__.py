"""Advice: what policies find, put on record, approved by people or by the policy, and carried out once."""
